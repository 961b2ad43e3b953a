import pytest
from pydantic import ValidationError

from data.errors import FeatureError
from features.bases import Bases
from features.context import STATISTICS
from features.feature import parse_feature
from features.indices import contrasts_of, indices_of
from features.settings import (
    ChangeSettings,
    ContextSettings,
    DistanceSettings,
    FeatureSettings,
    RelativeSettings,
    SampleSettings,
    feature_names,
)

BANDS = ["red", "nir", "green"]
DATED = ["red_before", "nir_before", "red_after", "nir_after"]
NOTHING = {"indices": [], "context": ContextSettings(of=[])}


def names_of(bands, **given):
    """Return the names that settings give after the bands' own, without indices and context unless given."""
    names = feature_names(bands, FeatureSettings(**(NOTHING | given)))
    assert names[: len(bands)] == tuple(bands)
    return names[len(bands) :]


def test_without_any_settings_there_are_the_bands_contrasts_and_context():
    names = feature_names(BANDS, FeatureSettings())
    indices = contrasts_of(BANDS)
    context = len(names) - len(BANDS) - len(indices)
    assert names[: len(BANDS) + len(indices)] == (*BANDS, *indices)
    assert context == 4 * 4 * 9
    statistics = ("mean", "std", "min", "max", "gradient", "edges", "coherence", "dob", "laplacian")
    assert names[-context:][:10] == (*(f"red_{statistic}_r1" for statistic in statistics), "red_mean_r3")
    assert names[-1] == "NDVI_laplacian_r15"


def test_context_is_by_default_of_the_bands_and_of_one_contrast_of_each_date():
    context = ContextSettings(radii=[2], statistics=["mean"])
    assert names_of(DATED, context=context) == tuple(
        f"{base}_mean_r2" for base in (*DATED, "NDVI_after", "NDVI_before")
    )
    assert names_of(["red"], context=context) == ("red_mean_r2",)
    assert names_of(["red", "nir"], context=context)[-1] == "NDVI_mean_r2"
    assert names_of(["vv", "vh"], context=context)[-1] == "VHVVR_mean_r2"


def test_context_is_of_what_is_named_by_radius_and_then_statistic():
    context = ContextSettings(of=["NDVI", "red"], radii=[7, 1], statistics=["std", "mean"])
    assert names_of(BANDS, context=context) == (
        "NDVI_std_r7",
        "NDVI_mean_r7",
        "NDVI_std_r1",
        "NDVI_mean_r1",
        "red_std_r7",
        "red_mean_r7",
        "red_std_r1",
        "red_mean_r1",
    )


def test_nothing_else_wanted_leaves_the_bands():
    assert names_of(BANDS) == ()
    assert names_of(BANDS, context=ContextSettings(radii=[])) == ()
    assert names_of(BANDS, context=ContextSettings(statistics=[])) == ()


def test_indices_are_all_or_contrasts_or_those_named_in_the_order_named():
    assert names_of(BANDS, indices="all") == indices_of(BANDS)
    assert names_of(BANDS, indices="contrasts") == contrasts_of(BANDS) == ("NDVI", "GNDVI", "NGRDI")
    assert names_of(BANDS, indices=["SAVI", "NDVI"]) == ("SAVI", "NDVI")


def test_every_formula_is_a_feature():
    assert names_of(BANDS, formulas={"water": "green > nir", "a": "red"}) == ("water", "a")


def test_changes_are_of_every_base_in_every_way():
    changes = [
        ChangeSettings(of=["NDVI", "nir"], by=["minus", "over"]),
        ChangeSettings(of=["red"], start="2019", end="2021"),
    ]
    assert names_of(DATED, changes=changes) == (
        "NDVI_after_minus_before",
        "NDVI_after_over_before",
        "nir_after_minus_before",
        "nir_after_over_before",
        "red_2021_minus_2019",
    )


def test_values_are_relative_to_the_scene_and_to_masks():
    assert names_of(BANDS, relative=RelativeSettings(of=["nir", "NDVI"])) == ("nir_above_scene", "NDVI_above_scene")
    relative = RelativeSettings(of=["nir", "red"], to=["scene", "water"], rank=True)
    assert names_of(BANDS, relative=relative) == (
        "nir_above_scene",
        "red_above_scene",
        "nir_above_water",
        "red_above_water",
        "nir_rank",
        "red_rank",
    )
    assert names_of(BANDS, relative=RelativeSettings(of=["nir"], to=[], rank=True)) == ("nir_rank",)


def test_distances_are_to_masks():
    assert names_of(BANDS, distance=DistanceSettings(to=["water", "cloud"])) == (
        "water_distance_r64",
        "cloud_distance_r64",
    )
    assert names_of(BANDS, distance=DistanceSettings(to=["water"], within=9)) == ("water_distance_r9",)


def test_shares_places_and_other_features_come_last():
    extra = ["red_median_r2"]
    assert names_of(BANDS, shares=["valid", "water"], coordinates=["x", "row"], extra=extra) == (
        "valid_share",
        "water_share",
        "at_x",
        "at_row",
        "red_median_r2",
    )


EVERYTHING = FeatureSettings(
    formulas={"wet": "nir_after < 0.1"},
    indices=["NDVI_after"],
    changes=[ChangeSettings(of=["NDVI"])],
    context=ContextSettings(of=["wet"], radii=[1], statistics=["mean"]),
    relative=RelativeSettings(of=["NDVI_after"], to=["wet"], rank=True),
    distance=DistanceSettings(to=["wet"]),
    shares=["valid"],
    coordinates=["row", "col", "x", "y"],
    extra=["nir_after_dob_r4"],
)


def test_columns_come_section_by_section():
    made = "NDVI_after wet NDVI_after_minus_before wet_mean_r1 NDVI_after_above_wet NDVI_after_rank wet_distance_r64"
    assert feature_names(DATED, EVERYTHING) == (
        *DATED,
        *made.split(),
        *("valid_share", "at_row", "at_col", "at_x", "at_y", "nir_after_dob_r4"),
    )


@pytest.mark.parametrize("settings", [EVERYTHING, FeatureSettings(), FeatureSettings(indices="all")])
@pytest.mark.parametrize("bands", [DATED, [*DATED, "vv_after"], [*DATED, "red", "nir08", "lwir11", "elevation"]])
def test_every_name_is_that_of_a_feature(bands, settings):
    bases = Bases(bands, settings.formulas)
    for name in feature_names(bands, settings):
        assert parse_feature(name, bases).name == name


@pytest.mark.parametrize(
    ("given", "twice"),
    [
        ({"extra": ["red"]}, "red"),
        ({"indices": ["NDVI", "NDVI"]}, "NDVI"),
        ({"indices": ["NDVI"], "extra": ["NDVI"]}, "NDVI"),
        ({"context": ContextSettings(of=["nir"], radii=[1, 1], statistics=["mean"])}, "nir_mean_r1"),
        ({"extra": ["at_row"], "coordinates": ["row"]}, "at_row"),
        ({"relative": RelativeSettings(of=["red", "nir"], to=["scene", "scene"])}, "nir_above_scene, red_above_scene"),
        ({"shares": ["valid", "valid"]}, "valid_share"),
    ],
)
def test_a_feature_that_is_named_twice_is_refused(given, twice):
    with pytest.raises(FeatureError, match=f"expected each feature once, got {twice} twice"):
        names_of(BANDS, **given)


def test_an_unknown_statistic_is_refused_with_the_known_ones():
    with pytest.raises(ValidationError, match=r"expected statistics among mean, std, .* got average"):
        ContextSettings(statistics=["mean", "average"])
    assert ContextSettings(statistics=list(STATISTICS)).statistics == list(STATISTICS)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (ContextSettings, {"radii": [0]}),
        (ContextSettings, {"radii": [-1]}),
        (ContextSettings, {"radii": [1.5]}),
        (ContextSettings, {"radius": [1]}),
        (ChangeSettings, {}),
        (ChangeSettings, {"of": ["nir"], "by": ["times"]}),
        (RelativeSettings, {}),
        (DistanceSettings, {"to": ["water"], "within": 0}),
        (FeatureSettings, {"indices": "some"}),
        (FeatureSettings, {"coordinates": ["z"]}),
        (FeatureSettings, {"indexes": "all"}),
        (SampleSettings, {"buffer": -1}),
        (SampleSettings, {"cap": 9}),
        (SampleSettings, {"spacing": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(model, given):
    with pytest.raises(ValidationError):
        model(**given)


AMOUNTS = ["positives", "ring", "negatives", "quota"]


@pytest.mark.parametrize("field", AMOUNTS)
@pytest.mark.parametrize("amount", ["all", 5, 0, 0.05, 0.999])
def test_an_amount_is_all_or_a_number_or_a_share(field, amount):
    found = getattr(SampleSettings(**{field: amount}), field)
    assert found == amount
    assert type(found) is type(amount)


@pytest.mark.parametrize("field", AMOUNTS)
@pytest.mark.parametrize("amount", [1.5, -1, -0.1, "half", "", None, float("nan"), float("inf"), [5]])
def test_an_amount_that_is_neither_is_refused(field, amount):
    with pytest.raises(ValidationError):
        SampleSettings(**{field: amount})


def test_quotas_of_single_classes_are_amounts():
    quotas = {"kelp": "all", "water": 50, "rock": 0.1}
    assert SampleSettings(quotas=quotas).quotas == quotas
    with pytest.raises(ValidationError):
        SampleSettings(quotas={"kelp": 1.5})


@pytest.mark.parametrize("indices", ["contrasts", "all"])
def test_a_band_named_like_an_index_is_no_reason_to_refuse_the_default(indices):
    names = feature_names(["red", "nir", "NDVI"], FeatureSettings(indices=indices))
    assert names.count("NDVI") == names.count("NDVI_mean_r1") == 1


def test_a_switch_is_no_amount():
    with pytest.raises(ValueError, match="positives"):
        SampleSettings(positives=True)


def test_embeddings_have_no_context_unless_it_is_asked_for():
    embedding = [f"A{band:02}" for band in range(64)]
    names = feature_names([*BANDS, *embedding], FeatureSettings())
    around = {name for name in names if any(name.startswith(f"{band}_") for band in embedding)}
    assert around == set()
    assert len(names) == len(feature_names(BANDS, FeatureSettings())) + 64
    few = feature_names(["red", "e1", "e2"], FeatureSettings(), decoded=["e1", "e2"])
    assert {name.split("_")[0] for name in few if "_" in name} == {"red"}
    asked = FeatureSettings(context={"of": "A00..A63", "radii": [1], "statistics": ["mean"]})
    assert feature_names(embedding, asked)[64:] == tuple(f"{band}_mean_r1" for band in embedding)


def test_ranges_of_names_are_spelled_out_and_those_that_fall_are_refused():
    assert ContextSettings(of=["dem", "b8..b10_after"]).of == ["dem", "b8..b10_after"]
    assert ContextSettings(of=["b8_after..b10_after"]).of == ["b8_after", "b9_after", "b10_after"]
    with pytest.raises(ValidationError, match=r"expected a range that rises, of at most 10000 names"):
        ContextSettings(of=["A63..A00"])
