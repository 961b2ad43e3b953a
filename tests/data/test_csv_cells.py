import pytest

from data.csv_cells import has_decimal_commas, read_rows, sniff_separator


@pytest.mark.parametrize(
    ("text", "separator", "commas"),
    [
        ("x,y\n1.5,NA\n", ",", False),
        ("x;y\n1,5;#N/A\n", ";", True),
        ("x;y\n1.5;\\N\n", ";", False),
        ("x\ty\n1,5\t<Null>\n", "\t", True),
    ],
)
def test_cells_are_read_as_programs_write_them(tmp_path, text, separator, commas):
    path = tmp_path / "a.csv"
    path.write_text(text, "utf-8-sig")
    assert sniff_separator(path) == separator
    assert has_decimal_commas(path, separator) == commas
    assert read_rows(path) == [{"x": "1.5", "y": ""}]
