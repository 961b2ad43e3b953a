"""Say what is installed, what this machine can do, and what about it is odd."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from data.workers import cores
from terrablend.branches import BRANCHES

__all__ = ["Finding", "describe_findings", "examine"]

DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "ENVI", "netCDF", "HDF5", "Zarr", "PNG", "JPEG")
"""Of GDAL, by its own names: formats that scenes come in."""

LITTLE_DISK = 10
"""GB below which a run of a few scenes may not fit."""

COMPROMISED = {"lightning": ("2.6.2", "2.6.3")}
"""Releases that carried foreign code."""


@dataclass(frozen=True)
class Finding:
    """Something about this machine.

    Parameters
    ----------
    subject, text : str
    odd : str
        What is wrong with it and what to do; empty where nothing is.
    broken : bool
        Whether Terrablend cannot be relied on with it.
    """

    subject: str
    text: str
    odd: str = ""
    broken: bool = False


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what there is to say of this installation and machine, and of the disk that a folder lies on."""
    yield Finding("Terrablend", version("terrablend"))
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    yield from _libraries(requires("terrablend") or ())
    yield from _processor()
    yield from _branches()
    yield _gdal()
    yield from _disks(folder)


def describe_findings(findings: Iterable[Finding]) -> tuple[str, bool]:
    """Return findings as text, what is odd last, and whether anything is broken."""
    lines, odd, broken = [], [], False
    for finding in findings:
        lines.append(f"{finding.subject:<28} {finding.text}")
        if finding.odd:
            odd.append(f"- {finding.subject}: {finding.odd}")
        broken |= finding.broken
    ending = ["", "Odd:", *odd] if odd else ["", "Nothing odd."]
    return "\n".join(lines + ending), broken


def _libraries(requirements: Iterable[str]) -> Iterator[Finding]:
    """Yield what is installed of what is required; of the extras, apart from those of developers, what is there."""
    extras: dict[str, list[str]] = {}
    for requirement in map(Requirement, requirements):
        extra = _extra_of(requirement)
        if extra == "dev" or (requirement.marker and not extra and not requirement.marker.evaluate()):
            continue
        installed = _version(requirement.name)
        if extra:
            extras.setdefault(extra, []).append(f"{requirement.name} {installed or 'not installed'}")
        else:
            yield _judge(requirement, installed)
    for extra, found in sorted(extras.items()):
        yield Finding(f"[{extra}]", ", ".join(found))


def _judge(requirement: Requirement, installed: str | None) -> Finding:
    name = requirement.name
    if installed is None:
        return Finding(name, "not installed", f"it is required: pip install '{requirement}'", broken=True)
    if installed in COMPROMISED.get(name, ()):
        odd = f"release {installed} carried foreign code: remove it, change your passwords, pip install '{requirement}'"
    elif not requirement.specifier.contains(Version(installed), prereleases=True):
        odd = f"expected {requirement.specifier}, got {installed}: pip install '{requirement}'"
    else:
        return Finding(name, installed)
    return Finding(name, installed, odd, broken=True)


def _extra_of(requirement: Requirement) -> str:
    """Return the extra that a requirement belongs to: the only one without which its marker does not hold."""
    marker = str(requirement.marker or "")
    return marker.split("extra ==")[1].strip().strip("\"'") if "extra ==" in marker else ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> Iterator[Finding]:
    usable, there = cores(), os.cpu_count() or 1
    yield Finding("cores", f"{usable} of {there}" if usable < there else str(usable))
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        odd = f"OMP_NUM_THREADS={threads} is set: libraries use no more threads than that, whatever --workers says"
        yield Finding("OMP_NUM_THREADS", threads, "" if threads == str(usable) else odd)


def _branches() -> Iterator[Finding]:
    for branch in BRANCHES.values():
        for subject, text, odd in branch.machine():
            yield Finding(subject, text, odd)
        if branch.starts:
            at_hand = branch.starts().splitlines().count("  at hand")
            yield Finding("pretrained weights", f"{at_hand} of the known ones at hand: terrablend weights")


def _gdal() -> Finding:
    import rasterio
    from rasterio.drivers import raster_driver_extensions
    from rasterio.env import Env

    with Env() as env:
        drivers = env.drivers()
    missing = [name for name in DRIVERS if name not in drivers]
    text = f"{rasterio.__gdal_version__}, {len(drivers)} drivers, files of {len(raster_driver_extensions())} endings"
    odd = f"it cannot read {', '.join(missing)}: scenes in these formats need another build of rasterio"
    return Finding("GDAL", text, odd if missing else "")


def _disks(folder: Path) -> Iterator[Finding]:
    for subject, place in (("disk here", folder), ("disk of temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free / 1e9
        odd = f"{free:.1f} GB are free: a run may not fit; free some, or name another folder with --run or TMPDIR"
        yield Finding(subject, f"{free:.0f} GB free in {place.resolve()}", odd if free < LITTLE_DISK else "")
