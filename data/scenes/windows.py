"""Windows of a scene, in pixels, and the grid it lies on."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Grid", "Window", "tile_windows"]


@dataclass(frozen=True)
class Window:
    """A rectangle of a scene, in pixels from its upper left corner; it may reach over the edge."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of this window in an array of the whole scene."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def grow(self, halo: int) -> "Window":
        """Return the window with ``halo`` more pixels on every side."""
        return Window(self.row - halo, self.col - halo, self.height + 2 * halo, self.width + 2 * halo)

    def shift(self, other: "Window") -> "Window":
        """Return the window in the pixels of a raster of which another window is a part.

        >>> Window(1, 2, 3, 4).shift(Window(100, 200, 9, 9))
        Window(row=101, col=202, height=3, width=4)
        """
        return Window(self.row + other.row, self.col + other.col, self.height, self.width)

    def meet(self, other: "Window") -> "Window":
        """Return the window that lies in both; its height or width is 0 if none does."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(row, col, max(bottom - row, 0), max(right - col, 0))

    def within(self, other: "Window") -> tuple[slice, slice]:
        """Return row and column slices of this window in an array of another one.

        >>> Window(5, 8, 2, 3).within(Window(4, 4, 9, 9))
        (slice(1, 3, None), slice(4, 7, None))
        """
        return Window(self.row - other.row, self.col - other.col, self.height, self.width).slices

    def cover(self, block: int) -> "Window":
        """Return the smallest window of whole blocks that covers this one; blocks start at the scene's corner.

        >>> Window(5, 8, 2, 9).cover(8)
        Window(row=0, col=8, height=8, width=16)
        """
        row, col = self.row // block * block, self.col // block * block
        below, beside = self.row + self.height - row, self.col + self.width - col
        return Window(row, col, -(-below // block) * block, -(-beside // block) * block)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a scene lie.

    Parameters
    ----------
    height, width : int
        Size in pixels.
    crs : str or None
        Coordinate reference system as WKT; None where the file declares none (none is invented).
    transform : tuple of 6 floats or None
        Affine coefficients (a, b, c, d, e, f), CRS units per pixel, e usually negative.
    """

    height: int
    width: int
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None

    @property
    def window(self) -> Window:
        """The window that covers the whole grid."""
        return Window(0, 0, self.height, self.width)

    def part(self, window: Window) -> "Grid":
        """Return the grid of a window within this one."""
        if self.transform is None:
            return Grid(window.height, window.width, self.crs)
        a, b, c, d, e, f = self.transform
        x, y = a * window.col + b * window.row + c, d * window.col + e * window.row + f
        return Grid(window.height, window.width, self.crs, (a, b, x, d, e, y))


def tile_windows(height: int, width: int, size: int | tuple[int, int]) -> Iterator[Window]:
    """Yield windows of at most ``size`` pixels on a side, or rows and columns, that cover a scene once, row by row.

    >>> [(w.row, w.col, w.height, w.width) for w in tile_windows(3, 5, 4)]
    [(0, 0, 3, 4), (0, 4, 3, 1)]
    """
    down, across = (size, size) if isinstance(size, int) else size
    for row in range(0, height, down):
        for col in range(0, width, across):
            yield Window(row, col, min(down, height - row), min(across, width - col))
