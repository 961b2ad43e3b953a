"""Default colours of classes, which differ for any colour vision."""

__all__ = ["BACKGROUND_COLOR", "PALETTE", "hex_color"]

BACKGROUND_COLOR = (30, 30, 30)
"""Of the background of a binary task."""

PALETTE = (
    # Okabe and Ito 2008, "Color universal design", without black: https://jfly.uni-koeln.de/color/
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    # Then each time the colour of a grid (steps of 17 in sRGB) that is farthest from all before, from white and from
    # the background: by the least CIEDE2000 that an eye with normal vision, protanopia or deuteranopia sees.
    (0, 0, 119), (153, 17, 0), (34, 102, 85), (187, 221, 170), (34, 68, 85), (0, 0, 34), (17, 0, 221),
    (221, 221, 255), (51, 136, 255), (153, 187, 170), (85, 102, 119), (255, 85, 119), (17, 34, 0),
)  # fmt: skip
"""Twenty colours, the first ones for few classes; more classes begin again."""


def hex_color(color: tuple[int, int, int]) -> str:
    """Return a colour as pages and styles write it.

    >>> hex_color((230, 159, 0))
    '#e69f00'
    """
    return "#{:02x}{:02x}{:02x}".format(*color)
