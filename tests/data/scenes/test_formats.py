import numpy as np
import pytest
import rasterio

from data.errors import SceneError
from data.scenes.formats import allow_vrt, raster_formats
from data.scenes.rasters import maybe_ungeoreferenced, open_raster, read_grid

BAND = '<VRTRasterBand dataType="Byte" band="1"{attributes}>{inside}</VRTRasterBand>'
SOURCE = (
    '<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename><SourceBand>1</SourceBand>'
    '<SrcRect xOff="0" yOff="0" xSize="8" ySize="8"/><DstRect xOff="0" yOff="0" xSize="8" ySize="8"/></SimpleSource>'
)
RAW = (
    "<SourceFilename>/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
    "<LineOffset>8</LineOffset>"
)
PYTHON = (
    "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    "<PixelFunctionCode><![CDATA[open('x', 'w')]]></PixelFunctionCode>"
)


def vrt(path, inside, attributes="", top=""):
    band = BAND.format(attributes=attributes, inside=inside)
    path.write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8"{top}>{band}</VRTDataset>')
    return path


def tif(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        maybe_ungeoreferenced(),
        rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8") as raster,
    ):
        raster.write(np.full((1, 8, 8), 7, np.uint8))
    return path


def mosaic(path, name, relative=1):
    return vrt(path, SOURCE.format(name=name, relative=relative))


def test_a_vrt_is_refused_whatever_its_name(tmp_path):
    tif(tmp_path / "own.tif")
    for name in ("scene.tif", "scene.vrt", "label.png"):
        with (
            pytest.raises(SceneError, match=rf"{name}: expected a raster that holds its own pixels, got a VRT"),
            open_raster(str(mosaic(tmp_path / name, "own.tif"))),
        ):
            pass


def test_an_allowed_vrt_is_the_mosaic_that_it_says(tmp_path):
    tif(tmp_path / "parts" / "a.tif")
    mosaic(tmp_path / "inner.vrt", "parts/a.tif")
    path = allow_vrt(str(mosaic(tmp_path / "outer.tif", "inner.vrt")), tmp_path)
    with open_raster(path) as raster:
        assert (raster.read() == 7).all()
    assert read_grid(path)[1] == 1
    assert allow_vrt(str(tmp_path / "parts" / "a.tif"), tmp_path) == str(tmp_path / "parts" / "a.tif")


@pytest.mark.parametrize(
    ("inside", "attributes", "top"),
    [
        (SOURCE.format(name="../outside.tif", relative=1), "", ""),
        (SOURCE.format(name="{outside}", relative=0), "", ""),
        (SOURCE.format(name="link.tif", relative=1), "", ""),
        (SOURCE.format(name="/vsicurl/http://127.0.0.1:9/x.tif", relative=0), "", ""),
        (SOURCE.format(name="http://127.0.0.1:9/x.tif", relative=0), "", ""),
        (SOURCE.format(name="text.tif", relative=1), "", ""),
        (SOURCE.format(name="&lt;VRTDataset/&gt;", relative=0), "", ""),
        (SOURCE.format(name="own.tif", relative=1).replace("SimpleSource", "ArraySource"), "", ""),
        (RAW, ' subClass="VRTRawRasterBand"', ""),
        (PYTHON, ' subClass="VRTDerivedRasterBand"', ""),
        (SOURCE.format(name="own.tif", relative=1), "", ' subClass="VRTWarpedDataset"'),
    ],
    ids=["above", "absolute", "a link", "vsicurl", "http", "no raster", "xml", "array", "raw", "python", "warped"],
)
def test_an_allowed_vrt_reads_nothing_but_rasters_below_root(tmp_path, monkeypatch, inside, attributes, top):
    root = tmp_path / "root"
    outside = tif(tmp_path / "outside.tif")
    tif(root / "own.tif")
    (root / "link.tif").symlink_to(outside)
    (root / "text.tif").write_text("root:x:0:0")
    path = vrt(root / "scene.vrt", inside.replace("{outside}", str(outside)), attributes, top)
    with pytest.raises(SceneError, match=r"scene\.vrt: expected"), open_raster(allow_vrt(str(path), root)):
        pass


@pytest.mark.parametrize(
    "path",
    [
        '<VRTDataset rasterXSize="1" rasterYSize="1"/>',
        "vrt:///etc/passwd",
        "DERIVED_SUBDATASET:AMPLITUDE:{tif}",
        "{wms}",
        "{stacit}",
    ],
)
def test_descriptions_of_other_files_are_no_rasters(tmp_path, path):
    wms, stacit = tmp_path / "wms.tif", tmp_path / "items.json"
    wms.write_text("<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9</ServerUrl></Service></GDAL_WMS>")
    stacit.write_text('{"type": "FeatureCollection", "stac_version": "1.0.0", "features": []}')
    text = path.format(tif=tif(tmp_path / "a.tif"), wms=wms, stacit=stacit)
    with pytest.raises(SceneError, match="expected"), open_raster(text):
        pass


@pytest.mark.parametrize(
    "path", ["/vsicurl?header_file=/etc/passwd&url=http://127.0.0.1:9/a", "/vsistdin/", "/vsizip//vsisubfile/0,/a"]
)
def test_paths_with_options_for_gdal_are_refused(path):
    with pytest.raises(SceneError, match="expected a file or its address, got /vsi"), open_raster(path):
        pass


def test_masks_overviews_and_metadata_beside_a_raster_lead_nowhere_else(tmp_path):
    path = tif(tmp_path / "a.tif")
    for side in (".msk", ".ovr"):
        beside = mosaic(tmp_path / f"a.tif{side}", "/etc/passwd", 0)
        with pytest.raises(SceneError, match=rf"a\.tif\{side}: expected a TIFF"), open_raster(str(path)):
            pass
        beside.unlink()
    aux = tmp_path / "a.tif.aux.xml"
    aux.write_text('<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/x</MDI></Metadata></PAMDataset>')
    with pytest.raises(SceneError, match=r"aux\.xml: expected metadata"), open_raster(str(path)):
        pass
    aux.write_text("<PAMDataset><PAMRasterBand band='1'><Description>nir</Description></PAMRasterBand></PAMDataset>")
    with open_raster(str(path)) as raster:
        assert raster.descriptions == ("nir",)


def test_formats_that_people_have_are_opened():
    assert {"GTiff", "JPEG", "PNG", "JP2OpenJPEG", "ENVI", "netCDF", "HDF5Image", "Zarr"} <= set(raster_formats())
