import math
from importlib.resources import files

import numpy as np
import pytest
import spyndex
from hypothesis import given, settings
from hypothesis import strategies as st

from features.indices import INDICES, LETTERS, SpectralIndex, contrasts_of, dates_of, indices_of, letter_bands

DOMAINS = {"vegetation", "water", "burn", "snow", "soil", "urban", "cloud", "radar"}

KELP = [
    "ATSAVI", "AFRI1600", "AVI", "ARVI", "BWDRVI", "CIG", "CVI", "CI", "DVIG", "DVIMSS", "EVI", "EVI24", "EVI2",
    "GARI", "GNDVI", "GRNDVI", "GBNDVI", "GVMI", "IPVI", "Intensity", "Hue", "LogR", "mCRIG", "DSWI1", "MCARIN",
    "MSR", "MSAVI", "NLI", "NDVI", "NDVIWM", "NDWI", "NDWIWM", "NormG", "NormNIR", "NormR", "PNDVI", "DSWI4", "SR2",
    "SR", "DSI", "RBNDVI", "SQRTNIRR", "TVI", "VARI", "WDRVI", "CHLA", "CYA", "TURB", "CDOM", "DOC", "COLOR",
    "SABI", "KIVU", "Kab1", "NDAVI", "WAVI", "FAI",
]  # fmt: skip

SHARED = sorted(set(INDICES) & set(spyndex.indices))

CONSTANTS = {
    "L": 0.5,
    "sla": 1.22,
    "slb": 0.03,
    "lambdaG": 560,
    "lambdaR": 655,
    "lambdaN": 865,
    "lambdaN2": 865,
    "lambdaS1": 1610,
    "lambdaS2": 2200,
}
"""Those that are not spyndex's own defaults."""
OF_ONE = {("EVI", "L"): 1.0, ("EVI2", "L"): 1.0, ("NDPI", "alpha"): 0.74, ("sNIRvNDPI", "alpha"): 0.74}

N, R, G, B, S1, S2 = 0.4, 0.1, 0.12, 0.08, 0.2, 0.15
PLANES = {letter: np.float32([value]) for letter, value in zip("NRGB", (N, R, G, B), strict=True)} | {
    "S1": np.float32([S1]),
    "S2": np.float32([S2]),
}


def spyndex_parameters(name, rng):
    """Return random reflectances for the bands and numbers for the constants of one of spyndex's indices."""
    parameters = {}
    for part in spyndex.indices[name].bands:
        if part in spyndex.constants:
            usual = CONSTANTS.get(part, spyndex.constants[part].default)
            parameters[part] = OF_ONE.get((name, part), usual)
        else:
            parameters[part] = rng.uniform(0.02, 0.6, 400)
    return parameters


def test_spyndex_knows_most_of_the_indices():
    assert len(SHARED) >= 250


@pytest.mark.parametrize("name", SHARED)
def test_an_index_has_the_value_that_spyndex_gives_it(name):
    parameters = spyndex_parameters(name, np.random.default_rng(7))
    letters = INDICES[name].letters
    assert letters == {part for part in parameters if part not in spyndex.constants}
    with np.errstate(all="ignore"):
        expected = spyndex.computeIndex(name, parameters)
    # In float64 on both sides, so that it is the formula that is compared: where near-equal reflectances are
    # subtracted, as in the denominators of MVI and SIPI, rounding to float32 alone makes a difference of 0.1 %.
    found = INDICES[name].compiled({letter: parameters[letter] for letter in letters})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert np.isfinite(found).sum() >= 100
    in_float32 = INDICES[name].compiled({letter: parameters[letter].astype(np.float32) for letter in letters})
    close = np.isclose(in_float32, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert close.mean() > 0.8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CI", (R - B) / R),
        ("DVIG", N - G),
        ("DVIMSS", 2.4 * N - R),
        ("EVI24", 2.4 * (N - R) / (N + R + 1)),
        ("Hue", math.atan((2 * R - G - B) / 30.5 * (G - B))),
        ("Intensity", (R + G + B) / 30.5),
        ("LogR", math.log(N / R)),
        ("MCARIN", ((N - R) - 0.2 * (N - G)) * (N / R)),
        ("mCRIG", (1 / B - 1 / G) * N),
        ("PNDVI", (N - R - G - B) / (N + R + G + B)),
        ("RBNDVI", (N - R - B) / (N + R + B)),
        ("SQRTNIRR", 2),
        ("BGR", 2 / 3),
        ("SABI", 1.5),
        ("KIVU", -1 / 6),
        ("NDAVI", 2 / 3),
        ("WAVI", 1.5 * 0.32 / 0.98),
        ("CHLA", 4.26 * 1.5**3.94),
        ("CYA", 115530.31 * 0.15**2.38),
        ("TURB", 8.93 * 1.5 - 6.39),
        ("CDOM", 537 * math.exp(-2.93 * 1.2)),
        ("DOC", 432 * math.exp(-2.24 * 1.2)),
        ("COLOR", 25366 * math.exp(-4.53 * 1.2)),
        ("Kab1", 1.67 - 3.94 * math.log(0.08) + 3.78 * math.log(0.12)),
        ("NDVIWM", 0.6),
        ("NDWIWM", 0),
        # Also in spyndex, but the ones everybody looks at.
        ("NDVI", 0.6),
        ("EVI", 2.5 * (N - R) / (N + 6 * R - 7.5 * B + 1)),
        ("SAVI", 1.5 * (N - R) / (N + R + 0.5)),
        ("MSAVI", 0.5 * (2 * N + 1 - math.sqrt((2 * N + 1) ** 2 - 8 * (N - R)))),
        ("FAI", N - (R + (S1 - R) * (865 - 655) / (1610 - 655))),
        ("NBR", (N - S2) / (N + S2)),
    ],
)
def test_an_index_is_what_its_paper_says(name, expected):
    np.testing.assert_allclose(INDICES[name].compiled(PLANES), [expected], rtol=2e-5, atol=1e-8)


def test_what_spyndex_does_not_know_has_a_value_by_hand():
    by_hand = {case[0] for mark in test_an_index_is_what_its_paper_says.pytestmark for case in mark.args[1]}
    assert set(INDICES) - set(SHARED) <= by_hand


def test_the_cut_off_indices_are_never_negative():
    planes = {"N": np.float32([0.1, 0.4]), "R": np.float32([0.3, 0.1]), "G": np.float32([0.4, 0.1])}
    np.testing.assert_allclose(INDICES["NDVIWM"].compiled(planes), [0, 0.6], rtol=1e-6)
    np.testing.assert_allclose(INDICES["NDWIWM"].compiled(planes), [0.6, 0], rtol=1e-6)


@pytest.mark.parametrize("name", KELP)
def test_the_indices_of_the_kelp_experience_are_there(name):
    assert name in INDICES
    # All of them from the bands of Landsat, as that data had them.
    assert INDICES[name].letters <= {"B", "G", "R", "N", "S1", "S2"}


def test_the_kelp_experience_has_57_indices():
    assert len(set(KELP)) == len(KELP) == 57


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_every_record_is_whole(index):
    assert index.letters
    assert index.letters <= set(LETTERS)
    assert index.domain in DOMAINS
    assert index.reference.strip()
    # What comes after _ in a feature's name is a date or a statistic.
    assert index.name.isidentifier()
    assert "_" not in index.name


def test_there_are_many_indices_of_every_domain():
    assert len(INDICES) >= 290
    assert {index.domain for index in INDICES.values()} == DOMAINS


def test_no_index_is_named_twice():
    lines = files("features").joinpath("indices.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == len(INDICES)


def test_ndvi_comes_first():
    # It is what context is computed of by default.
    assert next(iter(INDICES)) == "NDVI"


def test_an_index_is_found_under_its_name():
    assert all(index.name == name for name, index in INDICES.items())
    assert isinstance(INDICES["NDVI"], SpectralIndex)


any_float = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.05, 1e-38, 3e38])


@settings(max_examples=50)
@given(st.lists(any_float, min_size=len(LETTERS), max_size=len(LETTERS)))
def test_no_index_is_ever_infinite(values):
    planes = {letter: np.float32([value]) for letter, value in zip(LETTERS, values, strict=True)}
    for index in INDICES.values():
        result = index.compiled(planes)
        assert result.dtype == np.float32
        assert not np.isinf(result).any(), index.name


@settings(max_examples=50)
@given(st.sampled_from([0.0, 1.0, 0.05, 0.1]))
def test_no_index_is_infinite_where_all_bands_are_the_same(value):
    planes = dict.fromkeys(LETTERS, np.float32([value]))
    for index in INDICES.values():
        assert not np.isinf(index.compiled(planes)).any(), index.name


def test_nodata_in_any_band_of_an_index_is_nodata_in_the_index():
    for index in INDICES.values():
        for missing in index.letters:
            planes = dict.fromkeys(index.letters, np.float32([0.3])) | {missing: np.float32([np.nan])}
            assert np.isnan(index.compiled(planes)).all(), (index.name, missing)


@pytest.mark.parametrize(
    ("bands", "suffix", "expected"),
    [
        (["red", "nir"], "", {"R": "red", "N": "nir"}),
        (["red", "nir08"], "", {"R": "red", "N": "nir08", "N2": "nir08"}),
        (["nir08", "nir"], "", {"N": "nir", "N2": "nir08"}),
        (["lwir11", "lwir12"], "", {"T": "lwir11", "T1": "lwir11", "T2": "lwir12"}),
        (["lwir", "lwir11"], "", {"T": "lwir", "T1": "lwir11"}),
        (["rededge071", "rededge075"], "", {"RE1": "rededge071", "RE2": "rededge075"}),
        (["rededge", "rededge3", "rededge078"], "", {"RE1": "rededge", "RE3": "rededge3"}),
        (["rededge1", "rededge071"], "", {"RE1": "rededge1"}),
        (["coastal", "green05", "yellow"], "", {"A": "coastal", "G1": "green05", "Y": "yellow"}),
        (["vv", "vh", "hh", "hv"], "", {"VV": "vv", "VH": "vh", "HH": "hh", "HV": "hv"}),
        (["red_after", "nir_after", "nir"], "_after", {"R": "red_after", "N": "nir_after"}),
        (["red_after", "nir_after", "nir"], "", {"N": "nir"}),
        (["red_after"], "_before", {}),
        (["elevation", "B04"], "", {}),
        ([], "", {}),
    ],
)
def test_letters_mean_the_likeliest_band_there_is(bands, suffix, expected):
    assert letter_bands(bands, suffix) == expected


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (["red", "nir"], [""]),
        (["red_before", "red_after", "nir_after"], ["_after", "_before"]),
        (["red", "red_after"], ["", "_after"]),
        (["nir08", "rededge1"], [""]),
        (["red_2020"], ["_2020"]),
        (["redness", "elevation", "reduced"], []),
        (["red_of_may"], []),
        (["elevation_after"], []),
        ([], []),
    ],
)
def test_dates_are_what_comes_after_the_common_name(bands, expected):
    assert dates_of(bands) == expected


def test_indices_are_those_whose_bands_are_there():
    names = indices_of(["red", "nir", "blue"])
    assert "EVI" in names
    assert "NDVI" in names
    assert "NDWI" not in names
    assert all(INDICES[name].letters <= {"R", "N", "B"} for name in names)
    assert indices_of(["red"]) == ()
    assert indices_of(["elevation"]) == ()
    assert indices_of([]) == ()


def test_indices_come_in_the_order_of_the_file_whatever_the_order_of_the_bands():
    bands = ["red", "green", "blue", "nir", "swir16", "swir22"]
    names = indices_of(bands)
    assert names == indices_of(bands[::-1])
    assert names == tuple(name for name in INDICES if name in names)
    assert names[0] == "NDVI"


def test_one_formula_makes_one_column():
    names = indices_of(["red", "green", "blue", "nir", "swir16", "swir22"])
    formulas = [INDICES[name].formula for name in names]
    assert len(set(formulas)) == len(formulas)
    # The others can still be asked for by name.
    assert INDICES["MSI"].formula == INDICES["DSI"].formula
    assert "DSI" in names
    assert "MSI" not in names


def test_contrasts_are_the_normalised_differences_of_each_pair_of_bands_once():
    bands = ["red", "green", "blue", "nir", "swir16", "swir22"]
    names = contrasts_of(bands)
    pairs = [INDICES[name].letters for name in names]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(set(pairs)) == len(pairs)
    assert set(names) <= set(indices_of(bands))
    assert {"NDVI", "MNDVI", "GNDVI", "BNDVI"} <= set(names)
    assert not {"NDWI", "RNDVI", "SR", "DVI", "SAVI", "WDRVI"} & set(names)
    rng = np.random.default_rng(0)
    for name in names:
        first, second = INDICES[name].letters
        planes = {first: rng.random(9, np.float32), second: rng.random(9, np.float32)}
        contrast = (planes[first] - planes[second]) / (planes[first] + planes[second])
        np.testing.assert_array_equal(np.abs(INDICES[name].compiled(planes)), np.abs(contrast))


def test_contrasts_leave_out_no_pair_of_bands_of_which_there_is_a_normalised_difference():
    rng = np.random.default_rng(1)
    planes = {letter: rng.random(9) for letter in LETTERS}
    bands = [names[0] for names in LETTERS.values()]
    found = {INDICES[name].letters for name in contrasts_of(bands)}
    for name in indices_of(bands):
        index = INDICES[name]
        if len(index.letters) == 2:
            first, second = (planes[letter] for letter in index.letters)
            values = index.compiled(planes)
            contrast = (first - second) / (first + second)
            if np.allclose(values, contrast) or np.allclose(values, -contrast):
                assert index.letters in found, name


def test_contrasts_are_of_each_date():
    assert contrasts_of(["red_before", "nir_before", "red_after", "nir_after"]) == ("NDVI_after", "NDVI_before")
    assert contrasts_of(["red", "green_after"]) == ()


def test_bands_of_two_dates_give_indices_of_each():
    names = indices_of(["nir_before", "red_before", "nir_after", "red_after", "vv_after"])
    before, after = ({name.removesuffix(end) for name in names if name.endswith(end)} for end in ("_before", "_after"))
    assert "NDVI" in before
    assert before == after
    assert len(names) == 2 * len(before)
    assert not [name for name in names if name.startswith("EVI_")]


def test_no_index_mixes_two_dates():
    assert indices_of(["red_before", "nir_after"]) == ()
    assert indices_of(["red", "nir_after"]) == ()


def test_landsats_near_infrared_serves_where_there_is_no_other():
    names = indices_of(["red", "nir08"])
    assert "NDVI" in names
    assert "AshburnVI" in names
    assert "AshburnVI" not in indices_of(["red", "nir"])


def test_landsats_thermal_band_serves_as_the_thermal_band():
    names = indices_of(["red", "lwir11"])
    assert "NBLI" in names
    assert "NBLIOLI" not in names, "it would be the same column"
    assert "NBLIOLI" not in indices_of(["red", "lwir"])


@pytest.mark.parametrize("bands", [["red", "lwir11"], ["nir08", "rededge1"]])
def test_two_letters_for_one_band_make_one_column(bands):
    rng = np.random.default_rng(0)
    planes = {band: (rng.random(9) + 1).astype(np.float32) for band in bands}
    columns = []
    for name in indices_of(bands):
        found = letter_bands(bands)
        columns.append(INDICES[name].compiled({letter: planes[band] for letter, band in found.items()}).tobytes())
    assert len(set(columns)) == len(columns)
    assert len(contrasts_of(bands)) == 1
