import gzip
import zipfile

import pytest

from data.errors import LabelError
from data.vectors.shapes import open_shapes

OGR_VRT = (
    '<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer>'
    "</OGRVRTDataSource>"
)
DESCRIPTIONS = {
    "vrt": OGR_VRT,
    "wfs": "<OGRWFSDataSource><URL>http://127.0.0.1:9/wfs</URL></OGRWFSDataSource>",
    "pipeline": '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read /etc/passwd"}',
}


@pytest.mark.parametrize("text", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
@pytest.mark.parametrize("name", ["labels.gpkg", "labels.geojson", "labels.shp", "labels.vrt"])
def test_a_description_of_other_shapes_is_refused_whatever_its_name(tmp_path, monkeypatch, name, text):
    monkeypatch.setattr("pyogrio.list_layers", None)
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError, match=rf"{name}: expected shapes of its own, got a description of others"):
        open_shapes(str(tmp_path / name))


def test_a_description_in_an_archive_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pyogrio.list_layers", None)
    path = tmp_path / "labels.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.vrt", OGR_VRT)
    with pytest.raises(LabelError, match=r"labels\.zip.*: expected shapes of its own"):
        open_shapes(str(path))
    packed = tmp_path / "labels.geojson.gz"
    packed.write_bytes(gzip.compress(OGR_VRT.encode()))
    with pytest.raises(LabelError, match=r"labels\.geojson\.gz: expected shapes of its own"):
        open_shapes(str(packed))


@pytest.mark.parametrize("path", [OGR_VRT, "PG:dbname=x"])
def test_a_description_is_no_name(path):
    with pytest.raises(LabelError, match="expected"):
        open_shapes(path)
