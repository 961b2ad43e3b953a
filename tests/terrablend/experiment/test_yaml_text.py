import pytest
import yaml

from data.errors import ExperimentError
from terrablend.experiment import load_experiment
from terrablend.experiment.yaml_text import PlainLoader, brief, parse_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n" for before, here in zip("abcdefgh", "bcdefghi", strict=True)
)
MAPS = "a: &a {x: 1}\n" + "".join(
    f"{here}: &{here} {{p: *{before}, q: *{before}, r: *{before}, s: *{before}}}\n"
    for before, here in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a, b]", "name: Input should be a valid string Got ['a', 'b']"),
        ("name: !!int x", "line 1, column 7: expected plain YAML, got: no value: int 'x'"),
        ("seed: " + "9" * 5000, "no value: int '9999"),
        ("seed: 0x" + "f" * 10_000, "an integer of 40000 bits"),
        ("a: &a [*a]", "expected values that do not hold themselves, got *a at a.0"),
        ("a: &a {<<: *a}", "expected values that do not hold themselves, got *a at a.<<"),
        ("".join(" " * level + "a:\n" for level in range(1500)), "expected at most 40 levels"),
        ("name: " + "[" * 3000 + "]" * 3000, "expected at most 40 levels"),
        (BOMB, "expected at most 200000 values, aliases written out, got more at f.1"),
        (MAPS, "expected at most 200000 values, aliases written out, got more at i.q"),
        ("name: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("name: !!set {a, b}", "could not determine a constructor"),
        ('root: "a\\0b"', "a text with unprintable characters: 'a\\x00b'"),
        ('root: "\\ud800"', "a text with unprintable characters"),
        ("k" * 201 + ": 1", "a key of 201 characters"),
        ("? [a, b]\n: 1", "found unhashable key"),
        ("0: 1", "expected keys among"),
        ("root: ~nobody-has-this-name/x", "root: expected a folder, got '~nobody-has-this-name/x'"),
    ],
)
def test_an_experiment_file_that_cannot_be_read_is_named_with_the_place_in_it(tmp_path, text, message):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["!!int x", "&a [*a]", "9" * 5000, "[" * 100, "x\x00"])
def test_a_value_of_the_command_line_is_read_as_carefully(tmp_path, value):
    path = tmp_path / "small.yaml"
    path.write_text("name: a\n")
    with pytest.raises(ExperimentError, match=r"^--set name=.*: expected plain YAML") as caught:
        load_experiment(path, [f"name={value}"])
    assert len(str(caught.value)) < 500
    with pytest.raises(ExperimentError, match="expected KEY=VALUE"):
        load_experiment(path, [f"{'a.' * 2000}a=1"])


def test_what_is_shown_of_a_value_fits_a_line(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump({"name": ["a" * 5000] * 100, "task": "b" * 100_000, "c" * 150: 1, "seed": "x\ny"}))
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    assert max(map(len, str(caught.value).splitlines())) < 500
    assert brief(list(range(10_000))) == "[0, 1, 2, 3, 4, 5, ...]"


def test_problems_without_end_are_counted(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "classes": {number: {"name": 1} for number in range(500)}}))
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 52
    assert lines[0].startswith(f"{path}: 504 problems")
    assert lines[-1] == "  - and 454 more"


def test_a_date_is_a_text():
    assert parse_yaml("name: 2024-13-01\nother: 2024-12-01", "x") == {"name": "2024-13-01", "other": "2024-12-01"}


def test_aliases_and_merges_are_read_as_by_any_reader():
    text = "a: &a {x: 1, y: [1, 2.5, yes, null, 'q']}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n"
    assert parse_yaml(text, "x") == yaml.safe_load(text)
    # The bounds are of what the aliases stand for.
    small = type("SmallLoader", (PlainLoader,), {"most_nodes": 30})
    with pytest.raises(yaml.YAMLError, match="expected at most 30 values"):
        yaml.load(text, small)
