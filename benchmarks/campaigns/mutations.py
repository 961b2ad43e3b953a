"""Change files of a model as somebody would who means harm: within their formats, with all hashes made anew."""

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import yaml

from campaigns.damage import damage
from data.files import fingerprint
from data.records import CHECKSUM

__all__ = ["mutate", "reseal"]

Entries = Mapping[str, bytes]

MANIFEST = "manifest.json"

WILD: tuple[Any, ...] = (
    0, 1, -1, 2, 7, 255, 2**16, 2**31 - 1, -(2**31), 2**40, 10**18, 0.5, -1e308, 1e308, float("nan"), float("inf"),
    None, True, "", "x" * 100_000, "../../../x", "/etc/passwd", "\x1b[31m", "<script>", "=1+1", "${HOME}", [], {},
    [[]] * 50, ["a"] * 1000, {"a": {"a": {"a": {}}}},
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 3, 5, 100, 255, 65_535, 2**31 - 1, -(2**31), -2, 77)
FLOATS = (0.0, -1.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 1e-45)
WORDS = (b"0", b"-1", b"1", b"9", b"77", b"99999999", b"-99999999", b"2147483647", b"1e308", b"nan", b"inf", b"1_0",
         b"0 0", b"", b"1.5", "\u0663".encode())  # fmt: skip


def mutate(entries: Entries, name: str, rng: random.Random) -> dict[str, bytes]:
    """Return the entries of a bundle with one of them changed, and the hashes of all made anew."""
    changed = {**entries, name: _change(name, entries[name], rng)}
    return reseal(changed, spare=name if rng.random() < 0.2 else "")


def reseal(entries: Entries, spare: str = "") -> dict[str, bytes]:
    """Return entries with the checksums and hashes of their content, but for the checksum within one."""
    made = dict(entries)
    for name in made:
        record = _record(made[name]) if re.search(r"fold\d+\.json$", name) else None
        model = next((other for other in made if other != name and other.rpartition(".")[0] == name[:-5]), None)
        if record is not None and model is not None:
            record["sha256"] = sha256(made[model]).hexdigest()
            made[name] = _dump(record)
    # The record of the ensemble last: it holds the hashes of the others.
    for name in sorted(made, key=lambda name: name.startswith("ensemble/")):
        record = _record(made[name]) if name.endswith(".json") and name not in (MANIFEST, spare) else None
        if record is None:
            continue
        if isinstance(record.get("models"), dict) and "decision" in record:
            record["models"] = {
                known: sha256(made[known]).hexdigest() if known in made else hashed
                for known, hashed in record["models"].items()
            }
        if CHECKSUM in record:
            del record[CHECKSUM]
            record[CHECKSUM] = fingerprint(record)
        made[name] = _dump(record)
    if spare != MANIFEST and (manifest := _record(made[MANIFEST])) is not None:
        manifest["files"] = {
            name: {"sha256": sha256(data).hexdigest(), "size": len(data)}
            for name, data in made.items()
            if name != MANIFEST
        }
        made[MANIFEST] = _dump(manifest)
    return made


def _record(data: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _change(name: str, data: bytes, rng: random.Random) -> bytes:
    kind = name.rpartition(".")[2]
    if rng.random() < 0.1:
        return damage(data, rng)
    if kind == "json":
        return _dump(_wild(json.loads(data), rng))
    if kind == "yaml":
        return _change_yaml(data, rng)
    if kind == "txt":
        return _change_lightgbm(data, rng)
    if kind == "npz":
        return _change_arrays(data, rng)
    if kind == "zip":
        return _change_zip(data, rng)
    if kind == "safetensors":
        return _change_tensors(data, rng)
    return _change_words(data, rng)


def _wild(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """Return a value of JSON with one place in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = rng.choice(list(value))
        what = rng.random()
        if what < 0.05:
            return {other: entry for other, entry in value.items() if other != key}
        if what < 0.1:
            return {**value, str(rng.choice(WILD))[:300]: value[key]}
        return {**value, key: _wild(value[key], rng, depth + 1)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place, what = rng.randrange(len(value)), rng.random()
        if what < 0.1:
            return value[:place] + value[place + 1 :]
        if what < 0.2:
            return value + [value[place]] * rng.choice([1, 2, 1000])
        return [*value[:place], _wild(value[place], rng, depth + 1), *value[place + 1 :]]
    if rng.random() < 0.02:
        deep: Any = 1
        for _ in range(rng.choice([50, 900])):
            deep = [deep]
        return deep
    return rng.choice(WILD)


def _change_yaml(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return (
            data
            + b"\n"
            + rng.choice([b"a: &a [*a]", b"a: !!python/object/apply:os.system [ls]", b"[" * 5000, b"? " * 3000])
        )
    # What is JSON is YAML.
    return _dump(_wild(yaml.safe_load(data), rng))


def _change_lightgbm(data: bytes, rng: random.Random) -> bytes:
    """Change words of LightGBM's text, and mostly the sizes that its head tells of trees."""
    for _ in range(rng.choice([1, 1, 2, 10])):
        found = rng.choice(list(re.finditer(rb"(?<=[= ])[^\s=]+(?=[ \n])", data)))
        data = data[: found.start()] + rng.choice(WORDS) + data[found.end() :]
    if rng.random() < 0.1:
        line = rng.choice(data.splitlines(keepends=True))
        data = data.replace(line, line * rng.choice([0, 2]) + rng.choice([b"", b"left_child=0 0\r"]), 1)
    if rng.random() < 0.9:
        trees = re.findall(rb"Tree=\d+\n.*?(?=Tree=|end of trees)", data, re.DOTALL)
        sizes = b" ".join(str(len(tree)).encode() for tree in trees)
        data = re.sub(rb"tree_sizes=.*", b"tree_sizes=" + sizes, data, count=1)
    return data


def _change_arrays(data: bytes, rng: random.Random) -> bytes:
    """Change values, headers and sizes of arrays in numpy's format."""
    entries = _unzip(data)
    name = rng.choice([name for name in entries if name.endswith(".npy")])
    array = np.load(io.BytesIO(entries[name]), allow_pickle=False)
    what = rng.random()
    if what < 0.6 and array.size and array.dtype.kind in "iuf":
        array = array.copy()
        for _ in range(rng.choice([1, 1, 3, 20])):
            values = FLOATS if array.dtype.kind == "f" else NUMBERS
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice(values)
    elif what < 0.7:
        with np.errstate(all="ignore"):
            array = (
                array.astype(rng.choice(["<i8", "<f8", "|b1", "<u2", "<i2"])) if array.dtype.kind in "iufb" else array
            )
    elif what < 0.8 and array.ndim:
        array = np.concatenate([array, array[:1]]) if rng.random() < 0.5 else array[:-1]
    stream = io.BytesIO()
    np.save(stream, array)
    raw = stream.getvalue()
    if what >= 0.8:
        header = re.search(rb"'shape': \(.*?\)", raw)
        assert header is not None
        shape = rng.choice([b"(9999999999999,)", b"(2, 2)", b"()", b"(-1,)", b"(1099511627776, 4096)", b"(3,)"])
        text = b"'shape': " + shape
        raw = raw[: header.start()] + text + raw[header.end() :].replace(b" " * 20, b"", 1)
    return _zip({**entries, name: raw})


def _change_zip(data: bytes, rng: random.Random) -> bytes:
    entries = _unzip(data)
    name = rng.choice(list(entries))
    changed = {**entries, name: _change(name, entries[name], rng)}
    if rng.random() < 0.1:
        changed[rng.choice(["../../x.txt", "/x.txt", "bomb"])] = bytes(rng.choice([10, 300_000_000]))
    return _zip(changed)


def _change_tensors(data: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file, or its facts and tensors, whose checksum is made anew."""
    from campaigns.networks import write_changed

    if rng.random() < 0.4:
        return write_changed(data, rng, lambda facts: _wild(facts, rng))
    size = int.from_bytes(data[:8], "little")
    header = _wild(json.loads(data[8 : 8 + size]), rng)
    text = _dump(header)
    length = rng.choice([len(text), len(text), len(text), 2**40, 2**63, 0])
    return struct.pack("<Q", length) + text + data[8 + size :]


def _change_words(data: bytes, rng: random.Random) -> bytes:
    """Change whole numbers where they lie in binary formats, of UBJSON in its arrays."""
    copy = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        arrays = list(re.finditer(rb"\[\$([lLdDU])#L", data))
        if arrays and rng.random() < 0.8:
            array = rng.choice(arrays)
            form = {b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d", b"U": ">B"}[array[1]]
            count, width = int.from_bytes(data[array.end() : array.end() + 8], "big"), struct.calcsize(form)
            if count and array.end() + 8 + count * width <= len(copy):
                value = rng.choice(FLOATS[:2] + FLOATS[4:] if form in (">f", ">d") else NUMBERS)
                place = array.end() + 8 + width * rng.randrange(count)
                struct.pack_into(form, copy, place, int(value) % 256 if form == ">B" else value)
            continue
        place = rng.randrange(max(len(copy) // 4, 1)) * 4
        if place + 4 <= len(copy):
            struct.pack_into("<i", copy, place, rng.choice(NUMBERS))
    return bytes(copy)


def _unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(entries: Entries) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return content.getvalue()
