from xml.etree import ElementTree

import pytest

from data.maps.qgis_style import write_class_style, write_ramp_style

from ...conftest import KELP, LAND


def renderer_of(path):
    return ElementTree.fromstring(path.read_text("utf-8").split("\n", 2)[2]).find("pipe/rasterrenderer")


def test_classes_have_their_names_and_colours(tmp_path):
    write_class_style(tmp_path / "a.tif", LAND)
    renderer = renderer_of(tmp_path / "a.qml")
    assert renderer.get("type") == "paletted"
    entries = [(e.get("value"), e.get("label"), e.get("color"), e.get("alpha")) for e in renderer.iter("paletteEntry")]
    assert entries == [
        ("0", "water", "#0000ff", "255"),
        ("1", "rock", "#5a5a5a", "255"),
        ("2", "kelp", "#e69f00", "255"),
    ]


def test_the_background_of_a_binary_task_is_transparent(tmp_path):
    write_class_style(tmp_path / "a.tif", KELP)
    alphas = {e.get("label"): e.get("alpha") for e in renderer_of(tmp_path / "a.qml").iter("paletteEntry")}
    assert alphas == {"background": "0", "kelp": "255"}


def test_values_rise_from_transparent_to_a_colour(tmp_path):
    write_ramp_style(tmp_path / "a.tif", (255, 0, 16), ("none", "half", "all"))
    renderer = renderer_of(tmp_path / "a.qml")
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", "1")
    items = [(e.get("value"), e.get("label"), e.get("color"), e.get("alpha")) for e in renderer.iter("item")]
    assert items == [("0", "none", "#ff0010", "0"), ("0.5", "half", "#ff0010", "128"), ("1", "all", "#ff0010", "255")]


@pytest.mark.parametrize("text", ["<!DOCTYPE qgis>\n<qgis/>", ""])
def test_a_style_that_a_user_saved_is_left_alone(text, tmp_path):
    style = tmp_path / "a.qml"
    write_class_style(tmp_path / "a.tif", KELP)
    style.write_text(text)
    write_class_style(tmp_path / "a.tif", KELP)
    assert style.read_text() == text


def test_qgis_reads_the_styles(tmp_path, write_raster):
    core = pytest.importorskip("qgis.core", reason="QGIS is not installed")
    import numpy as np

    path = write_raster("a.tif", np.eye(8, dtype=np.uint8))
    write_class_style(path, KELP)
    application = core.QgsApplication([], False)
    application.initQgis()
    layer = core.QgsRasterLayer(str(path))
    assert [entry.label for entry in layer.renderer().classes()] == ["background", "kelp"]
    application.exitQgis()
