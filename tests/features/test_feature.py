import pytest

from data.errors import FeatureError
from features.bases import Bases
from features.context import STATISTICS
from features.feature import COORDINATES, parse_feature
from features.indices import INDICES

BASES = Bases(["red", "nir", "green_before", "green_after"], {"water": "NDVI < 0", "deep": "water and nir < 0.1"})


def parse(name):
    return parse_feature(name, BASES)


@pytest.mark.parametrize(
    ("name", "bands"),
    [
        ("red", {"red"}),
        ("NDVI", {"nir", "red"}),
        ("water", {"nir", "red"}),
        ("green_after_minus_before", {"green_after", "green_before"}),
        ("green_after_over_before", {"green_after", "green_before"}),
    ],
)
def test_a_base_is_a_feature_of_its_value(name, bands):
    feature = parse(name)
    assert (feature.name, feature.operation, feature.base.name) == (name, "value", name)
    assert feature.bands == bands
    assert feature.halo == feature.radius == 0
    assert not feature.needs_scene


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("base", ["red", "NDVI", "water", "green_after_minus_before"])
@pytest.mark.parametrize("radius", [1, 3, 15, 64])
def test_a_statistic_is_of_a_base_and_a_radius(base, statistic, radius):
    feature = parse(f"{base}_{statistic}_r{radius}")
    assert (feature.operation, feature.base.name, feature.radius) == (statistic, base, radius)
    assert feature.bands == parse(base).bands
    assert feature.halo == STATISTICS[statistic].halo(radius) > radius
    assert not feature.needs_scene


@pytest.mark.parametrize(
    ("name", "halo"),
    [
        ("red_mean_r3", 4),
        ("red_median_r1", 2),
        ("red_gradient_r7", 8),
        ("red_edges_r7", 8),
        ("red_dob_r1", 2),
        ("red_dob_r3", 6),
        ("red_laplacian_r2", 7),
        ("red_north_r5", 6),
        ("water_distance_r64", 65),
        ("red_rank", 0),
        ("red_above_water", 0),
        ("at_row", 0),
    ],
)
def test_the_halo_is_as_far_as_a_feature_looks(name, halo):
    assert parse(name).halo == parse(name).describe()["halo"] == halo


def test_a_value_stands_out_from_the_scene_or_from_where_a_formula_holds():
    scene, water = parse("green_after_above_scene"), parse("green_after_above_water")
    assert (scene.operation, scene.base.name, scene.mask) == ("above", "green_after", None)
    assert scene.bands == {"green_after"}
    assert (water.operation, water.base.name, water.mask.name) == ("above", "green_after", "water")
    assert water.bands == {"green_after", "nir", "red"}
    assert scene.needs_scene
    assert water.needs_scene
    assert parse("NDVI_above_deep").mask.definition == "water and nir < 0.1"


def test_a_rank_is_of_a_base():
    feature = parse("NDVI_rank")
    assert (feature.operation, feature.base.name, feature.bands) == ("rank", "NDVI", {"nir", "red"})
    assert feature.needs_scene


def test_a_share_is_of_a_condition_or_of_what_is_valid():
    water, valid = parse("water_share"), parse("valid_share")
    assert (water.operation, water.base.name, water.bands) == ("share", "water", {"nir", "red"})
    assert (valid.operation, valid.base, valid.bands) == ("share", None, frozenset())
    assert water.needs_scene
    assert valid.needs_scene


@pytest.mark.parametrize("name", COORDINATES)
def test_a_coordinate_needs_no_band(name):
    feature = parse(f"at_{name}")
    assert (feature.operation, feature.base, feature.bands) == (name, None, frozenset())
    assert not feature.needs_scene


@pytest.mark.parametrize("name", ["red_rank", "red_mean_r3", "at_row", "valid_share", "red_above_scene"])
def test_a_band_of_a_features_name_stays_a_band(name):
    feature = parse_feature(name, Bases([name, "red"], {}))
    assert (feature.operation, feature.base.kind) == ("value", "band")


def test_a_feature_of_a_band_with_underscores_is_of_the_whole_name():
    bases = Bases(["nir_mean_r3", "a_above_b"], {"is_wet": "a_above_b > 0"})
    assert parse_feature("nir_mean_r3_std_r7", bases).base.name == "nir_mean_r3"
    assert parse_feature("a_above_b_above_is_wet", bases).base.name == "a_above_b"


@pytest.mark.parametrize(
    "name",
    [
        "blue",
        "EVI",
        "row",
        "at_z",
        "at_",
        "red_mean",
        "red_mean_r",
        "red_mean_r0",
        "red_mean_r03",
        "red_mean_r-1",
        "red_mean_r3.5",
        "red_mean_r3_",
        "red_average_r3",
        "mean_r3",
        "_mean_r3",
        "red_mean_r3_std_r3",
        "red_rank_mean_r3",
        "blue_mean_r3",
        "blue_rank",
        "blue_share",
        "blue_above_scene",
        "red_above_land",
        "red_above_",
        "red_below_scene",
        "at_row_mean_r3",
        "rank",
        "",
        "red ",
    ],
)
def test_a_name_that_is_no_feature_is_refused(name):
    with pytest.raises(FeatureError, match=f"^feature {name}: expected "):
        parse(name)


def test_a_refusal_names_the_part_that_is_unknown_and_the_nearest():
    with pytest.raises(FeatureError, match=r"feature rad_mean_r3: .* got rad\. Did you mean red"):
        parse("rad_mean_r3")
    with pytest.raises(FeatureError, match=r"feature red_above_watr: .* got watr\. Did you mean water"):
        parse("red_above_watr")
    with pytest.raises(FeatureError, match=r"feature EVI_rank: expected the bands blue for EVI"):
        parse("EVI_rank")


@pytest.mark.parametrize(
    ("name", "kind", "definition", "halo", "reference", "unit"),
    [
        ("red", "band", "the band red", 0, "", "as in the file"),
        ("NDVI", "vegetation index", "(N - R) / (N + R)", 0, INDICES["NDVI"].reference, ""),
        ("water", "formula", "NDVI < 0", 0, "", ""),
        ("green_after_minus_before", "change", "green_after - green_before", 0, "", ""),
        ("NDVI_std_r7", "context", "standard deviation in the 15 × 15 window of NDVI", 8, "", ""),
        ("red_north_r2", "context", "red of the pixel 2 rows up", 3, "", ""),
        (
            "water_distance_r9",
            "context",
            "pixels to the edge of where water is not 0, at most 9, negative inside",
            10,
            "",
            "pixel",
        ),
        ("red_above_scene", "relative", "red less its median over the scene's valid pixels", 0, "", ""),
        ("red_above_water", "relative", "red less its median over the scene's pixels where water: NDVI < 0", 0, "", ""),
        ("red_rank", "relative", "share of the scene's valid pixels with less red", 0, "", ""),
        ("water_share", "scene", "share of the scene's pixels that have water: NDVI < 0", 0, "", ""),
        ("valid_share", "scene", "share of the scene's pixels that are valid", 0, "", ""),
        ("at_row", "coordinate", "row in the scene, from its upper edge", 0, "", "pixel"),
        (
            "at_x",
            "coordinate",
            "x of the pixel's centre, in units of the scene's coordinate system",
            0,
            "",
            "of the coordinate system",
        ),
    ],
)
def test_a_feature_says_what_it_is(name, kind, definition, halo, reference, unit):
    assert parse(name).describe() == {
        "name": name,
        "kind": kind,
        "definition": definition,
        "halo": halo,
        "reference": reference,
        "unit": unit,
    }


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_says_what_it_is_of(statistic):
    definition = parse(f"NDVI_{statistic}_r3").describe()["definition"]
    assert "NDVI" in definition
    assert "{" not in definition
