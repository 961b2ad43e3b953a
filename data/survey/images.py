"""Make the files of a scene's image of what the experiment file says of them: patterns, or assets of STAC items."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from data.errors import ExperimentError
from data.names import list_names
from data.scenes.decoding import Decoding
from data.scenes.image import ImageFile
from data.scenes.paths import is_there, resolve_path
from data.scenes.placement import Framing
from data.settings import (
    AssetSettings,
    FileSettings,
    Nodata,
    PixelScaleSettings,
    RasterSettings,
    SceneSettings,
    SplitSettings,
    StacSettings,
)
from data.stac.assets import AssetBand, declared_grid, find_asset
from data.stac.items import Item

__all__ = ["asset_path", "band_names", "framing", "image_files", "image_patterns", "odd_items", "stac_entries"]


def stac_entries(part: SplitSettings) -> list[StacSettings]:
    """Return the STAC collections among the entries of ``image``."""
    return [entry for entry in part.image if isinstance(entry, StacSettings)]


def image_patterns(part: SplitSettings, settings: SceneSettings) -> list[str]:
    """Return the patterns of all files that the image of a scene is read from, scales of pixels after their file."""
    return [
        pattern for entry in part.image if isinstance(entry, FileSettings) for pattern in _patterns(entry, settings)
    ]


def band_names(part: SplitSettings, settings: SceneSettings) -> list[str]:
    """Return the names of all bands as the experiment file gives them; of an asset of several bands its own."""
    return [name for names in _names(part, settings) for name in names]


def image_files(
    part: SplitSettings, settings: SceneSettings, paths: Sequence[str], items: Sequence[Item] = ()
) -> tuple[tuple[ImageFile, ...], list[str]]:
    """Return the files of one scene, with the bands and nodata of their entries.

    Parameters
    ----------
    part : SplitSettings
    settings : SceneSettings
    paths : sequence of str
        One for each of `image_patterns`.
    items : sequence of Item
        The scene's, one for each of `stac_entries`.

    Returns
    -------
    files : tuple of ImageFile
        Those of assets with the grid that the item names.
    problems : list of str
        What an item lacks.
    """
    path_of, item_of = iter(paths), iter(items)
    files, problems = list[ImageFile](), list[str]()
    for entry in part.image:
        if isinstance(entry, FileSettings):
            files.append(_file(entry, settings, path_of))
            continue
        item, names = next(item_of), iter(settings.bands or ())
        for asset in entry.assets:
            try:
                files.append(_asset_file(asset, settings, item, names))
            except ValueError as error:
                problems.append(f"{item.source}: item {item.name}: {error}")
        if any(True for _ in names):
            problems.append(
                f"{item.source}: item {item.name}: expected a band for each of scenes.bands, its assets have fewer. "
                "Name the bands of each asset beside it."
            )
    return tuple(files), problems


def asset_path(item: Item, key: str) -> str:
    """Return where an asset lies.

    Raises
    ------
    ValueError
        If the item has no such asset, or it is on this disk and not there; the message says so.
    """
    if key not in item.assets:
        raise ValueError(f"expected an asset {key}, got {', '.join(item.assets)}. Correct the key, or remove the item.")
    path = item.href(key)
    if not is_there(path):
        raise ValueError(f"asset {key}: expected the file {path}, no such file. Add it, or correct the href.")
    return path


def framing(part: SplitSettings, settings: SceneSettings, root: Path) -> Framing:
    """Return what gives a scene its grid, elevations for sensor models among it.

    A file of every scene, such as a DEM, does not say where one of them ends.

    Raises
    ------
    ExperimentError
        If ``scenes.grid`` names no band of theirs.
    """
    heights = "" if settings.heights is None else resolve_path(settings.heights, root)
    if settings.grid is not None and settings.grid.like is not None:
        like = tuple(place for place, names in enumerate(_names(part, settings)) if settings.grid.like in names)
        if not like:
            raise ExperimentError(f"scenes.grid: expected a band of the scenes, got {settings.grid.like}. Correct it.")
        return Framing(like, heights=heights)
    own = tuple(
        place for place, file in enumerate(part.rasters) if isinstance(file, AssetSettings) or "{id}" in file.path
    )
    if settings.grid is None:
        return Framing(own, heights=heights)
    return Framing(own, settings.grid.resolution, settings.grid.crs, heights)


def odd_items(entry: StacSettings, items: Sequence[Item]) -> Iterator[str]:
    """Yield what looks odd in items: no grid, or an offset that is declared and said to be applied already."""
    lacking, applied = list[str](), list[str]()
    for item in items:
        try:
            found = [find_asset(item, asset.asset) for asset in entry.assets]
            if any(declared_grid(item, bands.key) is None for bands in found):
                lacking.append(item.name)
        except ValueError:
            # A problem, which is listed as such.
            continue
        done = any(value is True for key, value in item.properties.items() if key.endswith(":boa_offset_applied"))
        if done and any(offset for bands in found for _, offset in bands.scales or ()):
            applied.append(item.name)
    if lacking:
        yield (
            f"{entry.stac}: {len(lacking)} items name no grid (proj:code, proj:shape, proj:transform) for all of their "
            f"assets: {list_names(lacking)}. It is read from the files."
        )
    if applied:
        yield (
            f"{entry.stac}: {len(applied)} items declare an offset and say that it was applied before "
            f"(boa_offset_applied): {list_names(applied)}. It is applied as declared; set scale where that is wrong."
        )


def _names(part: SplitSettings, settings: SceneSettings) -> Iterator[Sequence[str]]:
    """Yield the names of the bands of each file, as far as the experiment file tells."""
    for entry in part.image:
        if isinstance(entry, FileSettings):
            yield _bands_of(entry, settings)
            continue
        unnamed = [asset for asset in entry.assets if asset.bands is None]
        given = settings.bands if settings.bands and len(settings.bands) == len(unnamed) else None
        names = iter(given or [asset.asset for asset in unnamed])
        for asset in entry.assets:
            yield asset.bands or [next(names)]


def _file(entry: FileSettings, settings: SceneSettings, paths: Iterator[str]) -> ImageFile:
    path, bands = next(paths), _bands_of(entry, settings)
    scale = settings.scale if entry.scale is None else entry.scale
    given = {} if isinstance(scale, str) else scale
    return ImageFile(
        path,
        bands,
        _nodata(entry, settings),
        None if scale == "declared" else tuple(given.get(band, (1.0, 0.0)) for band in bands),
        resampling=entry.resampling or "",
        decoding=_decoding(entry, settings, paths),
    )


def _asset_file(asset: AssetSettings, settings: SceneSettings, item: Item, names: Iterator[str]) -> ImageFile:
    """Return the file of an asset; raises ValueError with what the item lacks."""
    found = find_asset(item, asset.asset)
    if asset.bands is not None:
        bands: tuple[str, ...] | None = tuple(asset.bands)
    elif settings.bands is not None:
        bands = tuple(name for name, _ in zip(names, found.bands, strict=False))
    else:
        bands = found.names(asset.asset)
    told: tuple[AssetBand, ...] = found.bands * len(bands or ()) if len(found.bands) == 1 else found.bands
    if not bands or len(bands) != len(told):
        raise ValueError(
            f"asset {found.key}: expected names of its {len(found.bands)} bands, got "
            f"{', '.join(bands or ()) or 'none'}. Name them beside it: {asset: …, bands: […]}."
        )
    if found.order and len(bands) > 1:
        raise ValueError(
            f"expected one name for the band {asset.asset}, got {', '.join(bands)}. Name the asset by its key."
        )
    scale = settings.scale if asset.scale is None else asset.scale
    if scale == "declared":
        by_item = found.scales
        scales = by_item and (by_item * len(bands) if len(by_item) == 1 else by_item)
    else:
        given = {} if isinstance(scale, str) else scale
        scales = tuple(given.get(band, (1.0, 0.0)) for band in bands)
    return ImageFile(
        asset_path(item, found.key),
        bands,
        tuple(dict.fromkeys((*_nodata(asset, settings), *found.nodata))),
        scales,
        declared_grid(item, found.key),
        asset.resampling or "",
        found.order,
        _decoding(asset, settings, iter(())),
    )


def _bands_of(file: FileSettings, settings: SceneSettings) -> tuple[str, ...]:
    bands = file.bands or settings.bands
    if not bands:
        raise ExperimentError(
            f"{file.path}: expected the names of its bands, got none. Give scenes.bands, or bands beside its path."
        )
    return tuple(bands)


def _patterns(file: FileSettings, settings: SceneSettings) -> list[str]:
    decode = settings.decode if file.decode is None else file.decode
    return [file.path, decode.scale] if isinstance(decode, PixelScaleSettings) else [file.path]


def _decoding(file: RasterSettings, settings: SceneSettings, paths: Iterator[str]) -> Decoding | None:
    """Return how a file is decoded; the next path is that of its scales, if it has any."""
    decode = settings.decode if file.decode is None else file.decode
    if not isinstance(decode, PixelScaleSettings):
        return None if decode == "none" else Decoding(decode)
    path = next(paths, None)
    if path is None:
        raise ExperimentError("decode: expected none or alphaearth of an asset, got a scale. Name its files by {id}.")
    return Decoding("scale", path)


def _nodata(file: RasterSettings, settings: SceneSettings) -> tuple[float, ...]:
    nodata: Nodata | None = settings.nodata if file.nodata is None else file.nodata
    return () if nodata is None else tuple(nodata) if isinstance(nodata, list) else (nodata,)
