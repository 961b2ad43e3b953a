"""Settings of the files of a scene's image."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from data.settings.base import BandNames, OneOrMore, Settings

__all__ = [
    "AssetSettings",
    "Decode",
    "FileSettings",
    "ImageSettings",
    "Nodata",
    "PixelScaleSettings",
    "RasterSettings",
    "Resampling",
    "Scale",
    "StacSettings",
]

Nodata = float | list[float]
Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode", "lanczos", "med", "min", "max"]
Scale = Literal["declared", "none"] | dict[str, tuple[float, float]]
"""As the file declares, the stored numbers as they are, or factor and offset of some bands."""


class PixelScaleSettings(Settings):
    """An embedding stored as whole numbers that a scale of each pixel is multiplied with, as TESSERA's."""

    scale: str = Field(
        description="file under `root` with the scale of each pixel, a raster of one band or an array (.npy); {id} "
        "stands for the scene's id"
    )


Decode = Literal["none", "alphaearth"] | PixelScaleSettings


class RasterSettings(Settings):
    """What a file of a scene holds."""

    bands: BandNames | None = Field(None, description="band names in file order; default: `scenes.bands`")
    nodata: Nodata | None = Field(None, description="nodata values of this file, one or several")
    scale: Scale | None = Field(None, description="as `scenes.scale`, of this file alone")
    decode: Decode | None = Field(None, description="as `scenes.decode`, of this file alone")
    resampling: Resampling | None = Field(
        None,
        description="how the file is brought onto another grid, that of its scene; default: `nearest` where its pixels "
        "are whole multiples of the scene's, else `average` of a finer file and `cubic` of others",
    )


class FileSettings(RasterSettings):
    """One file of a scene: where it lies and which bands it holds, in file order."""

    shorthand: ClassVar[str] = "path"

    path: str = Field(
        description="file under `root`, {id} standing for the scene's id; without {id} every scene uses the same file"
    )


class AssetSettings(RasterSettings):
    """One asset of the items of a STAC collection, or one band of it."""

    shorthand: ClassVar[str] = "asset"

    asset: str = Field(description="key of the asset, or common name or name of one band of an asset")


class StacSettings(Settings):
    """The scenes of a STAC collection, an item each: the files are its assets, the scene's id is the item's."""

    stac: str = Field(
        description="items under `root`: a folder of them, an ItemCollection, an item, a collection with its items, or "
        "stac-geoparquet"
    )
    assets: Annotated[list[AssetSettings], OneOrMore()] = Field(
        min_length=1,
        description="assets by key or common name; scale, offset and nodata are those of the item, unless given here",
    )


def _kind_of_image(value: Any) -> str:
    return "stac" if isinstance(value, StacSettings) or (isinstance(value, dict) and "stac" in value) else "file"


ImageSettings = Annotated[
    Annotated[FileSettings, Tag("file")] | Annotated[StacSettings, Tag("stac")], Discriminator(_kind_of_image)
]
