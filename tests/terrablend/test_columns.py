import math

from features.description import ColumnFacts, TableFacts
from features.explanation import ClassUse, ColumnUse, Explanation, Spread
from terrablend.columns import describe_columns, describe_explanation

QUANTILES = (0.01, 0.02, 1234.5, 3.0, 4.75)


def column(name, auc, halo=0, reference="", empty=0.0, quantiles=QUANTILES):
    return ColumnFacts(name, "band", f"the band {name}", halo, reference, empty, quantiles, auc)


def parts(text):
    """Return the lines about columns and those about pairs, as lists of words."""
    lines = [line.split() for line in text.splitlines()]
    start, end = 4, lines.index([], 4)
    assert lines[end + 1] == ["most", "correlated", "pairs"]
    return lines[start:end], lines[end + 2 :]


def test_columns_come_in_the_order_of_how_well_they_separate_a_class():
    facts = TableFacts(
        100,
        ("background", "kelp"),
        (column("weak", (0.55, 0.45)), column("strong", (0.95, 0.05)), column("fair", (0.2, 0.8))),
        (),
    )
    rows, _ = parts(describe_columns(facts))
    assert [row[:3] for row in rows] == [
        ["strong", "0.050", "kelp"],
        ["fair", "0.800", "kelp"],
        ["weak", "0.450", "kelp"],
    ]


def test_of_many_classes_the_one_that_the_column_separates_best_is_named():
    facts = TableFacts(
        100,
        ("water", "rock", "kelp"),
        (column("low", (0.1, 0.7, 0.6)), column("high", (0.5, 0.5, 0.99)), column("some", (math.nan, 0.7, 0.4))),
        (),
    )
    rows, _ = parts(describe_columns(facts))
    assert [row[:3] for row in rows] == [
        ["high", "0.990", "kelp"],
        ["low", "0.100", "water"],
        ["some", "0.700", "rock"],
    ]


def test_a_column_without_a_value_names_no_class():
    empty = column("empty", (math.nan, math.nan), empty=1.0, quantiles=(math.nan,) * 5)
    facts = TableFacts(100, ("background", "kelp"), (empty, column("red", (0.4, 0.6))), ())
    rows, _ = parts(describe_columns(facts))
    assert rows[1][:6] == ["empty", "nan", "100.0%", "nan", "nan", "nan"]


def test_a_line_says_what_the_column_is_and_its_values():
    facts = TableFacts(12345, ("background", "kelp"), (column("nir_mean_r3", (0.1, 0.9), 3, "Rouse 1973", 0.125),), ())
    text = describe_columns(facts)
    assert text.startswith("1 columns, described from 12345 rows")
    ((*numbers, halo, the, band, name, author, year),) = parts(text)[0]
    assert numbers == ["nir_mean_r3", "0.900", "kelp", "12.5%", "0.01", "1234", "4.75"]
    assert (halo, the, band, name, author, year) == ("3", "the", "band", "nir_mean_r3", "[Rouse", "1973]")


def test_lines_are_aligned_whatever_the_length_of_names():
    facts = TableFacts(
        9,
        ("background", "a class with a long name"),
        (column("a", (0.4, 0.6)), column("a_column_with_a_long_name", (0.3, 0.7))),
        (),
    )
    header, *rows = describe_columns(facts).splitlines()[3:6]
    for row in rows:
        assert row.index("the band") == header.index("what it is")
        assert row.index("a class") == header.index("class")


def test_the_most_correlated_pairs_are_listed():
    pairs = (("red", "green", 0.98765), ("red", "nir", 0.5))
    facts = TableFacts(9, ("background", "kelp"), (column("red", (0.4, 0.6)),), pairs)
    assert parts(describe_columns(facts))[1] == [["0.988", "red,", "green"], ["0.500", "red,", "nir"]]


def used(name, lost, has_shap=True):
    spread = Spread(lost, 0.001)
    return ColumnUse(name, Spread(0.25, 0.01), spread, spread, 0.5 if has_shap else math.nan, None, None)


def test_an_explanation_names_what_is_missed_most_of_each_class_with_its_meaning():
    facts = TableFacts(
        9, ("water", "rock"), (column("red", (0.4, 0.6)), column("NDVI", (0.3, 0.7), reference="Rouse 1973")), ()
    )
    uses = (used("NDVI", 0.125), used("red", -0.0125))
    text = describe_explanation(
        Explanation("trees", 1000, 100, 5, True, (ClassUse("rock", 0.1, 0.5, uses), ClassUse("sand", 0.2, 0.6, uses))),
        facts,
    )
    assert text.startswith("trees, by 1000 rows held out")
    assert "5 times over" in text
    for label in ("rock: IoU 0.5000, log loss 0.1000; 2 of 2 columns", "sand: IoU 0.6000, log loss 0.2000"):
        start = text.index(label)
        header, first, second = text[start:].splitlines()[1:4]
        assert first.split()[:2] == ["NDVI", "25.0%"]
        assert "-0.1250 ± 0.0010   +0.1250 ± 0.0010    0.500  the band NDVI  [Rouse 1973]" in first
        assert "+0.0125 ± 0.0010   -0.0125 ± 0.0010" in second
        assert header.index("what it is") == first.index("the band") == second.index("the band")


def test_an_explanation_without_shap_values_says_so():
    facts = TableFacts(9, ("background", "kelp"), (column("red", (0.4, 0.6)),), ())
    use = ClassUse("kelp", 0.1, 0.5, (used("red", 0.1, has_shap=False),))
    text = describe_explanation(Explanation("trees", 1000, 100, 5, False, (use,)), facts)
    assert "SHAP values are not given by this library" in text
    assert " –  the band red" in text
