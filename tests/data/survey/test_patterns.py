import zipfile

import pytest

from data.errors import CatalogueError, ExperimentError
from data.survey.patterns import files_on_disk, find_files, resolve_path


@pytest.fixture
def folder(tmp_path):
    for name in ("img/a.tif", "img/b.tif", "img/.c.tif", "img/a.tif.aux.xml", "img/a.tfw", "img/ab.hdr", "y/a.nc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("img/a.tif", b"")
        archive.writestr("img/deep/b.tif", b"")
    return tmp_path


@pytest.mark.parametrize("pattern", ["img/{id}.tif", "{folder}/img/{id}.tif"])
def test_a_pattern_is_below_the_root_or_absolute(folder, pattern):
    found = find_files(pattern.replace("{folder}", str(folder)), folder)
    assert found == {name: str(folder / f"img/{name}.tif") for name in ("a", "b")}


def test_files_in_an_archive_and_rasters_in_files_are_found(folder):
    assert find_files(f"/vsizip/{folder}/all.zip/img/{{id}}.tif", folder) == {
        "a": f"/vsizip/{folder}/all.zip/img/a.tif"
    }
    assert find_files(f"/vsizip/{folder}/{{id}}.zip/img/a.tif", folder) == {
        "all": f"/vsizip/{folder}/all.zip/img/a.tif"
    }
    assert find_files("NETCDF:y/{id}.nc:ndvi", folder) == {"a": f'NETCDF:"{folder}/y/a.nc":ndvi'}
    assert resolve_path("s3://bucket/a.tif", folder) == "s3://bucket/a.tif"


def test_addresses_cannot_be_listed_and_archives_must_be_there(folder):
    with pytest.raises(ExperimentError, match="expected files that can be listed"):
        find_files("s3://bucket/{id}.tif", folder)
    with pytest.raises(CatalogueError, match=r"none\.zip: expected a zip archive"):
        find_files(f"/vsizip/{folder}/none.zip/{{id}}.tif", folder)


def test_what_lies_beside_a_file_is_read_with_it(folder):
    image, archive = str(folder / "img/a.tif"), f"/vsizip/{folder}/all.zip/img/a.tif"
    names = [path.name for path in files_on_disk([image, archive, f'NETCDF:"{folder}/y/a.nc":ndvi', "s3://b/a.tif"])]
    assert names == ["all.zip", "a.tfw", "a.tif", "a.tif.aux.xml", "a.nc"]
