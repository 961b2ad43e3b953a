import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from terrablend.start import doctor
from terrablend.start.doctor import Finding, describe_findings, examine


def said(monkeypatch: pytest.MonkeyPatch, *requirements: str, **installed: str) -> dict[str, Finding]:
    monkeypatch.setattr(doctor, "_version", installed.get)
    return {finding.subject: finding for finding in doctor._libraries(requirements)}


def test_this_installation_works(tmp_path: Path) -> None:
    findings = list(examine(tmp_path))
    subjects = [finding.subject for finding in findings]
    assert {"Terrablend", "Python", "torch", "GPU", "cores", "bfloat16 on the CPU", "GDAL", "disk here"} <= {*subjects}
    assert not [finding for finding in findings if finding.broken]
    assert "pytest" not in subjects, "the tools of developers are no one else's"


def test_what_is_missing_old_or_compromised_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = said(
        monkeypatch,
        "torch>=2.8",
        "numpy>=2.0",
        "lightning>=2.6.1",
        "polars>=1.20",
        'catboost>=1.2; extra == "catboost"',
        'pytest>=8; extra == "dev"',
        'tomli>=1; python_version < "3"',
        numpy="1.26",
        lightning="2.6.2",
        polars="2.0rc1",
    )
    assert "it is required: pip install 'torch>=2.8'" in found["torch"].odd
    assert "expected >=2.0, got 1.26" in found["numpy"].odd
    assert "carried foreign code" in found["lightning"].odd
    assert found["polars"] == Finding("polars", "2.0rc1")
    assert found["[catboost]"] == Finding("[catboost]", "catboost not installed")
    assert {*found} == {"torch", "numpy", "lightning", "polars", "[catboost]"}
    text, broken = describe_findings(found.values())
    assert broken
    assert text.splitlines()[-4:-3] == ["Odd:"]


def test_nothing_odd_is_said_too() -> None:
    assert describe_findings([Finding("cores", "2")]) == (f"{'cores':<28} 2\n\nNothing odd.", False)


def test_threads_and_disk_that_hold_a_run_back_are_odd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert "use no more threads" in list(doctor._processor())[-1].odd
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage(1, 1, 3e9))
    assert all("3.0 GB are free" in finding.odd for finding in doctor._disks(tmp_path))


@pytest.mark.parametrize("hiding", ["features.py", "data/__init__.py", "data/scene.csv"])
def test_a_file_that_hides_a_package_is_named(tmp_path: Path, hiding: str) -> None:
    path = tmp_path / hiding
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    command = [sys.executable, "-c", "import terrablend.cli"]
    root = Path(doctor.__file__).parents[2]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{root}"}, capture_output=True, text=True
    )
    if hiding.endswith(".csv"):
        assert done.returncode == 0, "a folder that is no package hides nothing"
    else:
        named = path.parent if path.name == "__init__.py" else path
        assert done.stderr.rstrip().endswith(
            f"ImportError: {named} hides the package {named.stem} of Terrablend: "
            "rename it, or start Python in another folder."
        )
