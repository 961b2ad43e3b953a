import io
import zipfile

import numpy as np
import pytest

from data.archives import open_zip, read_array
from data.errors import TableError
from data.records import FileKind

FACTS = FileKind("facts", TableError, "terrablend features")


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def test_what_goes_wrong_within_a_zip_is_named(tmp_path):
    path = tmp_path / "x.zip"
    with pytest.raises(TableError, match=r"x\.zip: expected facts, got no such file"), open_zip(path, FACTS):
        pass
    path.write_bytes(b"PK nothing")
    with pytest.raises(TableError, match=r"x\.zip: expected facts, got a damaged file"), open_zip(path, FACTS):
        pass


def test_a_zip_that_unpacks_to_far_more_than_it_is_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(80 * 2**20))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(TableError, match=r"bomb\.zip: .* 1 entries of 83886080 bytes"), open_zip(path, FACTS):
        pass


@pytest.mark.parametrize("array", [np.arange(5, dtype=np.int32), np.ones((2, 3)), np.array("sigmoid"), np.int64(7)])
def test_arrays_are_read_as_numpy_wrote_them(tmp_path, array):
    with open_zip(save(tmp_path / "x.npz", a=array), FACTS) as archive:
        found = read_array(archive, "a", np.asarray(array).dtype.type, np.ndim(array))
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        (b"(5,)", b"(9999999999999,)"),
        (b"(5,)", b"(4,)"),
        (b"(5,)", b"(-5,)"),
        (b"(5,)", b"()"),
        (b"<i4", b"|O8"),
        (b"<i4", b"<f4"),
        (b"False", b"True"),
        (b"'shape'", b"'shope'"),
        (b"NUMPY", b"NAMPY"),
    ],
)
def test_an_array_that_is_other_than_its_header_says_asks_for_no_memory(tmp_path, monkeypatch, text, instead):
    stream = io.BytesIO()
    np.save(stream, np.arange(5, dtype=np.int32))
    raw = stream.getvalue()
    shift = len(instead) - len(text)
    changed = (
        raw.replace(text, instead, 1).replace(b" " * shift + b"\n", b"\n") if shift > 0 else raw.replace(text, instead)
    )
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", changed + b" " * (len(raw) - len(changed)))
    for name in ("empty", "zeros", "load"):
        monkeypatch.setattr(np, name, None)
    with (
        pytest.raises(TableError, match=r"x\.npz: expected facts, got a damaged file"),
        open_zip(path, FACTS) as archive,
    ):
        read_array(archive, "a", np.int32, 1)
