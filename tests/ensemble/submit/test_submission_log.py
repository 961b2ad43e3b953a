import hashlib
from datetime import UTC, datetime

import polars as pl

from ensemble.submit.submission_log import Submitted, hash_files, log_submission

FIRST = Submitted("kelp", "submission.tar", "dice", 0.7, 0.65, 0.74, "abc", "def", "a0" * 32)
SECOND = Submitted("rle", "a, b.csv", "dice", 0.71, float("nan"), 0.75, "abd", "deg", "b1" * 32)


def test_every_submission_is_a_row_and_earlier_rows_stay_as_they_are_and_none_is_there_twice(tmp_path):
    log = tmp_path / "submissions.csv"
    log_submission(log, FIRST, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    before = log.read_bytes()
    for _ in range(2):
        log_submission(log, SECOND)
    assert log.read_bytes().startswith(before)
    table = pl.read_csv(log)
    assert table["when"][0] == "2026-01-02T03:04:05+00:00"
    assert table["path"].to_list() == ["submission.tar", "a, b.csv"]
    assert table["score"].to_list() == [0.7, 0.71]
    assert table["sha256"].to_list() == ["a0" * 32, "b1" * 32]


def test_a_file_has_its_own_hash_and_a_folder_that_of_names_and_contents(tmp_path):
    file = tmp_path / "x" / "a.tif"
    file.parent.mkdir()
    file.write_bytes(b"123")
    assert hash_files(file) == hashlib.sha256(b"123").hexdigest()
    (tmp_path / "x" / ".writing-left").write_bytes(b"no")
    whole = hash_files(tmp_path / "x")
    assert whole == hashlib.sha256(f"{hashlib.sha256(b'123').hexdigest()}  a.tif\n".encode()).hexdigest()
    file.rename(tmp_path / "x" / "b.tif")
    assert hash_files(tmp_path / "x") != whole
