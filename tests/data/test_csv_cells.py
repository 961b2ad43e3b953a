import pytest

from data.csv_cells import has_decimal_commas, quote_formula, read_rows, sniff_separator, warn_of_formulas


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
    found = read_rows(path)
    assert (found.columns, found.lines, found.cells) == (("x", "y"), (2,), ({"x": "1.5", "y": ""},))


def test_ids_stay_what_is_written_and_commas_part_tags(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID;tags\nNA;1,2\n7;None\n8\n", "utf-8")
    found = read_rows(path, texts=("id",), decimals=False)
    assert found.cells == ({"ID": "NA", "tags": "1,2"}, {"ID": "7", "tags": ""}, {"ID": "8"})
    assert found.lines == (2, 3, 4)


def test_what_spreadsheets_would_run_is_quoted_or_told(tmp_path, caplog):
    cells = ["=cmd|'/c calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
    assert [quote_formula(cell) for cell in cells] == [f"'{cell}" for cell in cells]
    plain = ["kelp", "a=b", "-1.5", "+3", "-1e-5", "-inf", "", 7, -7.5, None]
    assert [quote_formula(cell) for cell in plain] == plain
    warn_of_formulas(tmp_path / "tags.csv", plain)
    assert not caplog.records
    warn_of_formulas(tmp_path / "tags.csv", [*plain, *cells])
    assert "tags.csv: 6 cells begin like formulas, such as \"=cmd|'/c calc'!A0\"" in caplog.text
