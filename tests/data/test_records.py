import json
import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import TableError
from data.records import (
    FileKind,
    Number,
    parquet_writer,
    read_footer,
    read_parquet,
    read_record,
    write_parquet,
    write_record,
)

FACTS = FileKind("facts", TableError, "terrablend features")


@dataclass(frozen=True)
class Facts:
    name: str
    values: tuple[Number, ...]


def test_a_record_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "facts.json"
    write_record(path, Facts("ä", (0.1, 1e-300, math.nan)))
    found = read_record(path, Facts, FACTS)
    assert found.name == "ä"
    np.testing.assert_array_equal(found.values, [0.1, 1e-300, math.nan])
    # The content counts, not how it is laid out.
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert read_record(path, Facts, FACTS).values[:2] == (0.1, 1e-300)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 2000, '{"name": "x", "values": [1]}', '{"values": [1], "checksum": "0"}', "9" * 5000]
)
def test_another_file_is_no_record(tmp_path, text):
    path = tmp_path / "facts.json"
    with pytest.raises(TableError, match=r"facts\.json: expected facts, got no such file. Run `terrablend features`"):
        read_record(path, Facts, FACTS)
    path.write_text(text)
    with pytest.raises(TableError, match=r"facts\.json: expected facts, got a damaged file.*features --overwrite`"):
        read_record(path, Facts, FACTS)


def test_a_changed_value_and_a_record_of_another_model_are_refused(tmp_path):
    path = tmp_path / "facts.json"
    write_record(path, Facts("x", (0.25,)))
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(TableError, match="its checksum is not that of its content"):
        read_record(path, Facts, FACTS)
    write_record(path, {"name": "x", "values": "none"})
    with pytest.raises(TableError, match="values: Input should be a valid tuple"):
        read_record(path, Facts, FACTS)


def test_a_parquet_file_with_checksums_is_one_that_others_read(tmp_path):
    path = tmp_path / "rows.parquet"
    table = pa.table({"a": np.arange(1000), "b": np.linspace(0, 1, 1000)})
    with parquet_writer(path, table.schema, compression="lz4") as writer:
        for part in (table.slice(0, 300), table.slice(300)):
            writer.write_table(part)
    assert read_parquet(path, FACTS).equals(table)
    assert read_parquet(path, FACTS, ["b"], 1).equals(table.slice(300).select(["b"]))
    assert read_footer(path, FACTS).num_row_groups == 2
    assert pl.read_parquet(path).equals(pl.DataFrame(table))
    pq.write_table(table, path)
    with pytest.raises(TableError, match="the checksum of its footer"):
        read_parquet(path, FACTS)


def test_every_bit_of_a_parquet_file_counts(tmp_path):
    path = tmp_path / "rows.parquet"
    table = pa.table({"a": np.arange(50), "label of": np.linspace(0, 1, 50)})
    write_parquet(path, table, write_statistics=False)
    sound = path.read_bytes()
    for place in range(0, len(sound), 7):
        copy = bytearray(sound)
        if place % 2:
            copy[place] ^= 4
        else:
            # With the header of a page its own checksum can get lost.
            copy[place : place + 16] = bytes(len(copy[place : place + 16]))
        path.write_bytes(copy)
        try:
            found = read_parquet(path, FACTS)
        except TableError:
            continue
        assert found.equals(table), place


def test_a_path_of_glob_characters_means_itself(tmp_path):
    folder = tmp_path / "run [1] *?"
    write_parquet(folder / "rows.parquet", pa.table({"a": [1]}))
    write_parquet(tmp_path / "run 1 x" / "rows.parquet", pa.table({"a": [2]}))
    assert read_parquet(folder / "rows.parquet", FACTS)["a"].to_pylist() == [1]
