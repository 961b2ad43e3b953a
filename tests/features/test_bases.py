import numpy as np
import pytest

from data.errors import FeatureError
from features.bases import Bases
from features.indices import INDICES

BANDS = ("red", "nir", "green")
DATED = ("red_before", "nir_before", "red_after", "nir_after")

PLANES = {
    "red": np.float32([0.1, 0.3, 0, np.nan]),
    "nir": np.float32([0.4, 0.3, 0, 0.5]),
    "green": np.float32([0.2, 0.1, 0, 0.1]),
    "red_before": np.float32([0.1, 0.1, 0, 0.1]),
    "nir_before": np.float32([0.3, 0.1, 0, 0.3]),
    "red_after": np.float32([0.2, 0.1, 0.1, np.nan]),
    "nir_after": np.float32([0.2, 0.3, 0.3, 0.3]),
}


def values(bases, name):
    return bases.find(name).formula(PLANES)


def test_a_band_is_found_under_its_name():
    base = Bases(BANDS, {}).find("nir")
    assert (base.name, base.kind, base.definition, base.reference) == ("nir", "band", "the band nir", "")
    assert base.formula.names == {"nir"}
    np.testing.assert_array_equal(base.formula(PLANES), PLANES["nir"])


@pytest.mark.parametrize("name", ["B08-10m", "band 1", "lambda", "2020", "nir.tif", "not"])
def test_a_band_may_have_a_name_that_no_formula_can(name):
    base = Bases([name], {}).find(name)
    assert base.kind == "band"
    assert base.formula({name: np.float32([3])}) == 3


def test_an_index_is_found_with_its_source():
    base = Bases(BANDS, {}).find("NDVI")
    assert (base.name, base.kind, base.definition) == ("NDVI", "vegetation index", "(N - R) / (N + R)")
    assert base.reference == INDICES["NDVI"].reference
    assert base.formula.names == {"nir", "red"}
    np.testing.assert_allclose(values(Bases(BANDS, {}), "NDVI"), [0.6, 0, np.nan, np.nan], rtol=1e-6)


def test_an_index_of_a_date_is_of_that_dates_bands():
    bases = Bases(DATED, {})
    assert bases.find("NDVI_after").formula.names == {"nir_after", "red_after"}
    np.testing.assert_allclose(values(bases, "NDVI_after"), [0, 0.5, 0.5, np.nan], rtol=1e-6)
    np.testing.assert_allclose(values(bases, "NDVI_before"), [0.5, 0, np.nan, 0.5], rtol=1e-6)
    assert bases.find("NDVI") is None
    assert bases.find("NDVI_between") is None
    assert bases.find("NDWI_after") is None


def test_an_index_of_landsat_takes_its_near_infrared():
    base = Bases(["nir08", "red"], {}).find("NDVI")
    assert base.formula.names == {"nir08", "red"}


@pytest.mark.parametrize("name", ["blue", "NDVIX", "ndvi", "NDVI_", "_NDVI", "EVI", "nir_minus_red", "", "NIR", " nir"])
def test_what_is_none_is_not_found(name):
    assert Bases(BANDS, {}).find(name) is None


def test_a_formula_may_use_bands_indices_and_other_formulas():
    bases = Bases(BANDS, {"sum": "red + nir", "water": "NDVI < 0.1", "both": "water and sum > 0.5 * nir"})
    base = bases.find("both")
    assert (base.kind, base.definition, base.reference) == ("formula", "water and sum > 0.5 * nir", "")
    assert base.formula.names == {"red", "nir"}
    np.testing.assert_allclose(values(bases, "sum"), [0.5, 0.6, 0, np.nan], rtol=1e-6)
    # NDVI of the third pixel is 0 / 0, so nothing is known of what depends on it.
    np.testing.assert_array_equal(values(bases, "water"), np.float32([0, 1, np.nan, np.nan]))
    np.testing.assert_array_equal(values(bases, "both"), np.float32([0, 1, np.nan, np.nan]))


def test_an_infinite_index_is_unknown_to_a_formula_that_compares_it():
    bases = Bases(BANDS, {"steep": "SR > 1"})
    planes = {"nir": np.float32([0.4, 0.4]), "red": np.float32([0, 0.1])}
    np.testing.assert_array_equal(bases.find("steep").formula(planes), np.float32([np.nan, 1]))


def test_formulas_may_come_in_any_order():
    formulas = {"a": "b + 1", "b": "c * 2", "c": "red"}
    backwards = dict(reversed(formulas.items()))
    np.testing.assert_array_equal(values(Bases(BANDS, formulas), "a"), values(Bases(BANDS, backwards), "a"))


@pytest.mark.parametrize(
    ("formulas", "loop"),
    [
        ({"a": "a + red"}, "a → a"),
        ({"a": "b + red", "b": "a"}, "a → b → a"),
        ({"a": "b", "b": "c + red", "c": "a"}, "a → b → c → a"),
        ({"x": "red", "a": "b + x", "b": "b"}, "a → b → b"),
    ],
)
def test_a_formula_that_uses_itself_is_refused(formulas, loop):
    with pytest.raises(FeatureError, match=f"expected no formula that uses itself, got {loop}"):
        Bases(BANDS, formulas)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("red", "'?that of a band'?"),
        ("NDVI", "'?that of an index'?"),
        # Also an index that these bands do not allow.
        ("EVI", "'?that of an index'?"),
        ("my water", "'my water'"),
        ("2water", "'2water'"),
        ("a-b", "'a-b'"),
        ("", "''"),
    ],
)
def test_a_formula_needs_a_name_of_its_own(name, what):
    with pytest.raises(FeatureError, match=f"expected a name of its own, .* got {what}. Choose another name"):
        Bases(BANDS, {name: "nir - red"})


def test_a_formula_that_uses_what_there_is_not_is_told_the_nearest():
    with pytest.raises(FeatureError, match=r"formula water = gren - nir: expected a band .* got gren\..* mean green"):
        Bases(BANDS, {"water": "gren - nir"})
    with pytest.raises(FeatureError, match=r"formula b = watr \+ 1: .* Did you mean water"):
        Bases(BANDS, {"water": "green > nir", "b": "watr + 1"})


def test_a_formula_that_uses_an_index_of_missing_bands_is_told_their_names():
    with pytest.raises(FeatureError, match=r"formula a = EVI \+ 1: expected the bands blue for EVI = .* have red"):
        Bases(BANDS, {"a": "EVI + 1"})


@pytest.mark.parametrize("text", ["nir.real", "nir +", "1", "", "open(nir)"])
def test_a_formula_that_cannot_be_compiled_is_refused_at_once(text):
    with pytest.raises(FeatureError, match="formula"):
        Bases(BANDS, {"a": text})


def test_a_change_is_the_later_less_the_earlier_or_their_ratio():
    bases = Bases(DATED, {})
    minus, over = bases.find("nir_after_minus_before"), bases.find("nir_after_over_before")
    assert (minus.kind, minus.definition) == ("change", "nir_after - nir_before")
    assert (over.kind, over.definition) == ("change", "nir_after / nir_before")
    assert minus.formula.names == over.formula.names == {"nir_after", "nir_before"}
    np.testing.assert_allclose(minus.formula(PLANES), [-0.1, 0.2, 0.3, 0], atol=1e-7)
    np.testing.assert_allclose(over.formula(PLANES), [2 / 3, 3, np.nan, 1], rtol=1e-6)
    back = values(bases, "nir_before_minus_after")
    np.testing.assert_array_equal(back, -minus.formula(PLANES))


def test_a_change_of_an_index_is_of_both_dates_and_keeps_its_source():
    base = Bases(DATED, {}).find("NDVI_after_minus_before")
    assert (base.name, base.definition) == ("NDVI_after_minus_before", "NDVI_after - NDVI_before")
    assert base.reference == INDICES["NDVI"].reference
    assert base.formula.names == set(DATED)
    np.testing.assert_allclose(base.formula(PLANES), [-0.5, 0.5, np.nan, np.nan], rtol=1e-6)


def test_an_index_that_is_infinite_at_one_date_has_no_change():
    # 1 over infinity would be 0.
    planes = {"nir_before": [0.2], "red_before": [0], "nir_after": [0.2], "red_after": [0.1]}
    base = Bases(DATED, {}).find("SR_after_over_before")
    assert np.isnan(base.formula({name: np.float32(plane) for name, plane in planes.items()}))


def test_a_change_of_a_users_formulas_is_found():
    formulas = {"wet_before": "nir_before < 0.2", "wet_after": "nir_after < 0.25"}
    bases = Bases(DATED, formulas)
    np.testing.assert_array_equal(values(bases, "wet_after_minus_before"), np.float32([1, -1, -1, 0]))


def test_a_formula_may_use_a_change():
    bases = Bases(DATED, {"loss": "NDVI_after_minus_before < -0.2"})
    np.testing.assert_array_equal(values(bases, "loss"), np.float32([1, 0, np.nan, np.nan]))


@pytest.mark.parametrize(
    "name", ["nir_after_minus_between", "nir_now_minus_before", "blue_after_minus_before", "nir_after_times_before"]
)
def test_a_change_from_a_date_or_of_a_band_that_is_not_there_is_not_found(name):
    assert Bases(DATED, {}).find(name) is None


def test_a_band_that_is_named_like_an_index_is_a_band():
    bases = Bases(["NDVI", "nir", "red"], {"dense": "NDVI > 0.5"})
    assert bases.find("NDVI").kind == "band"
    assert bases.find("dense").formula.names == {"NDVI"}
    assert bases.find("DVI").kind == "vegetation index"


def test_a_band_that_is_named_like_a_change_is_a_band():
    assert Bases(["nir_a_minus_b", "nir_a", "nir_b"], {}).find("nir_a_minus_b").kind == "band"


def test_a_name_that_is_none_is_answered_with_what_there_is():
    bases = Bases(BANDS, {"water": "green > nir"})
    answer = bases.why_unknown("wate")
    assert answer.startswith("expected a band (red, nir, green), an index of them, a formula of yours")
    assert "red_mean_r3" in answer
    assert answer.endswith("got wate. Did you mean water?")
    assert "Did you mean" not in bases.why_unknown("?????")
    assert "Did you mean" in bases.why_unknown("NDV")
    assert "NDVI" in bases.why_unknown("NDV")


def test_an_index_whose_bands_are_missing_is_answered_with_its_formula():
    answer = Bases(BANDS, {}).why_unknown("EVI")
    assert answer.startswith("expected the bands blue for EVI = 2.5 * (N - R)")
    assert "the scenes have red, nir, green" in answer
    assert "for EVI" in Bases(DATED, {}).why_unknown("EVI_after")


def test_a_change_of_formulas_that_come_later_is_found():
    formulas = {"d": "x_after_minus_before", "x_after": "nir_after", "x_before": "nir_before"}
    assert Bases(DATED, formulas).find("d").formula.names == {"nir_after", "nir_before"}


def test_a_formula_named_like_an_index_of_a_date_takes_its_place():
    formulas = {"d": "NDVI_after_minus_before", "NDVI_after": "red_after"}
    assert Bases(DATED, formulas).find("NDVI_after").kind == "formula"


def test_a_formula_that_uses_itself_by_a_change_is_refused():
    with pytest.raises(FeatureError, match="uses itself"):
        Bases(DATED, {"x_after": "x_after_minus_before", "x_before": "nir_before"})


@pytest.mark.parametrize("name", ["NDVI_meen_r3", "NDVI_mean_r0", "SI_mask"])
def test_a_misspelt_statistic_of_an_index_is_not_blamed_on_the_bands(name):
    assert "expected the bands" not in Bases(["red", "green", "blue", "nir"], {}).why_unknown(name)


def test_a_chain_of_formulas_has_an_end():
    chain = {f"f{step}": f"f{step - 1}" if step else "red" for step in range(5000)}
    with pytest.raises(FeatureError, match="expected at most 100 formulas in a chain"):
        Bases(["red"], dict(reversed(chain.items())))
