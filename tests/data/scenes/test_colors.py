import numpy as np
import pytest

from data.scenes.classes import Classes
from data.scenes.colors import BACKGROUND_COLOR, PALETTE
from data.settings import ClassSettings

VISIONS = {
    "normal": np.eye(3),
    # Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1.
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def to_lab(colors, vision="normal"):
    """Return sRGB colours (…, 3) in 0 … 255 as CIELAB (…, 3) of D65, as seen by an eye."""
    shares = np.asarray(colors) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VISIONS[vision].T, 0, 1)
    ratio = seen @ TO_XYZ.T / (TO_XYZ @ np.ones(3))
    x, y, z = np.moveaxis(np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def difference(first, second):
    """Return CIEDE2000 of CIELAB colours (…, 3); Sharma, Wu and Dalal 2005, doi:10.1002/col.20070."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)
    mean7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    raised = 1.5 - 0.5 * np.sqrt(mean7 / (mean7 + 25.0**7))
    c1, c2 = np.hypot(a1 * raised, b1), np.hypot(a2 * raised, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * raised)) % 360 for a, b in ((a1, b1), (a2, b2)))
    gray = c1 * c2 == 0
    turn = np.where(gray, 0, (h2 - h1 + 180) % 360 - 180)
    turn = np.where(turn == -180, 180, turn)
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    far = np.abs(h1 - h2) > 180
    middle = np.where(gray, h1 + h2, (h1 + h2 + np.where(far, np.where(h1 + h2 < 360, 360, -360), 0)) / 2)
    cosine = [np.cos(np.radians(angle)) for angle in (middle - 30, 2 * middle, 3 * middle + 6, 4 * middle - 63)]
    t = 1 - 0.17 * cosine[0] + 0.24 * cosine[1] + 0.32 * cosine[2] - 0.20 * cosine[3]
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    of_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    of_chroma, of_hue = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    bend = (
        -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((middle - 275) / 25) ** 2))))
    )
    parts = (l2 - l1) / of_light, (c2 - c1) / of_chroma, hue / of_hue
    return np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + bend * parts[1] * parts[2])


def least(colors):
    """Return the least difference of two colours, whatever the eye."""
    first, second = np.triu_indices(len(colors), 1)
    seen = [to_lab(colors, vision) for vision in VISIONS]
    return min(difference(lab[first], lab[second]).min() for lab in seen)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_yardstick_measures_what_its_authors_publish(first, second, expected):
    assert difference(np.array(first, float), np.array(second, float)) == pytest.approx(expected, abs=1e-4)


def test_the_first_eight_colours_are_told_apart_by_any_eye_and_so_are_all():
    assert least(np.array(PALETTE[:8])) > 11.5
    assert least(np.array([*PALETTE, BACKGROUND_COLOR])) > 11
    assert len(PALETTE) >= 17


def test_the_palette_follows_its_rule():
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 17)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = {vision: to_lab(grid, vision) for vision in VISIONS}
    nearest = np.full(len(grid), np.inf)

    def keep_away(color):
        for vision, lab in seen.items():
            np.minimum(nearest, difference(lab, to_lab(np.array([color]), vision)), out=nearest)

    for color in (*PALETTE[:7], BACKGROUND_COLOR, (255, 255, 255)):
        keep_away(color)
    for color in PALETTE[7:]:
        assert tuple(grid[np.argmax(nearest)]) == color
        keep_away(color)


def test_classes_without_a_colour_of_their_own_have_distinct_ones():
    names = {number: ClassSettings(name=f"c{number}") for number in range(17)}
    assert len(set(Classes.from_settings("multiclass", names).colors)) == 17
    names[3] = ClassSettings(name="mine", color=(1, 2, 3))
    assert Classes.from_settings("multiclass", names).colors[3] == (1, 2, 3)
