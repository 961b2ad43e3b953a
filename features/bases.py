"""Features of a pixel's own bands: bands, indices, the user's formulas, changes between dates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from data.errors import FeatureError
from data.names import list_names
from features.formula import DEPTH, Formula, compile_formula
from features.indices import INDICES, LETTERS, dates_of, indices_of, letter_bands

__all__ = ["Base", "Bases"]

CHANGE = re.compile(r"(?P<what>.+)_(?P<late>[^_]+)_(?P<how>minus|over)_(?P<early>[^_]+)")
SIGNS = {"minus": "-", "over": "/"}


@dataclass(frozen=True)
class Base:
    """A value of each pixel that depends on nothing but its bands.

    Parameters
    ----------
    name, kind, definition, reference : str
    formula : Formula
        Of bands.
    """

    name: str
    kind: str
    definition: str
    reference: str
    formula: Formula


class Bases:
    """Finds bases by name.

    A name is a band, a formula of the user, an index (``NDVI``, or ``NDVI_after`` of the bands ``nir_after`` and
    ``red_after``), or a change between two dates: ``NDVI_after_minus_before``, ``nir_after_over_before``.

    Parameters
    ----------
    bands : sequence of str
    formulas : mapping of str to str
        The user's, by name; they may use bands, indices and each other.

    Raises
    ------
    FeatureError
        If a formula cannot be compiled, uses a name that there is not, or itself.
    """

    def __init__(self, bands: Sequence[str], formulas: Mapping[str, str]) -> None:
        self.bands, self.formulas = tuple(bands), dict(formulas)
        self._found: dict[str, Base | None] = {band: _band(band) for band in bands}
        self._within: list[str] = []
        for name in formulas:
            if name in bands or name in INDICES or not name.isidentifier():
                got = "that of a band" if name in bands else "that of an index" if name in INDICES else repr(name)
                raise FeatureError(
                    f"formula {name}: expected a name of its own, of letters, digits and _, got {got}. "
                    "Choose another name."
                )
        for name in formulas:
            self.find(name)

    def find(self, name: str) -> Base | None:
        """Return the base of a name, or None."""
        if name not in self._found:
            base = self._formula(name) if name in self.formulas else self._index(name) or self._change(name)
            self._found[name] = base
        return self._found[name]

    def why_unknown(self, name: str) -> str:
        """Return what was expected in place of an unknown name."""
        index = INDICES.get(name.partition("_")[0])
        date = "" if index is None else name.removeprefix(index.name)
        if index is not None and date in ("", *dates_of(self.bands)):
            missing = sorted(index.letters - set(letter_bands(self.bands, date)))
            return (
                f"expected the bands {', '.join(LETTERS[letter][0] + date for letter in missing)} for {index.name} = "
                f"{index.formula}, the scenes have {list_names(self.bands)}. Give bands their common names, or leave "
                "the feature out."
            )
        if not name.isidentifier():
            return (
                f"expected the name of a band, an index or a formula, got {name}. "
                f"Write it under features.formulas, `mask: {name}`, and use that name."
            )
        names = [*self.bands, *self.formulas, *indices_of(self.bands)]
        nearest = get_close_matches(name, names, n=3, cutoff=0.4)
        return (
            f"expected a band ({list_names(self.bands)}), an index of them, a formula of yours, or a statistic of one "
            f"such as {''.join(self.bands[:1])}_mean_r3, got {name}."
            + (f" Did you mean {' or '.join(nearest)}?" if nearest else "")
        )

    def _formula(self, name: str) -> Base:
        if name in self._within:
            trail = " → ".join((*self._within, name))
            raise FeatureError(f"formula {name}: expected no formula that uses itself, got {trail}.")
        if len(self._within) > DEPTH:
            raise FeatureError(f"formula {self._within[0]}: expected at most {DEPTH} formulas in a chain, got more.")
        self._within.append(name)
        text = self.formulas[name]
        known: dict[str, Formula | str] = {}
        for part in compile_formula(text).names:
            base = self.find(part)
            if base is None:
                raise FeatureError(f"formula {name} = {text}: {self.why_unknown(part)}")
            known[part] = part if base.kind == "band" else base.formula
        self._within.pop()
        return Base(name, "formula", text, "", compile_formula(text, known))

    def _index(self, name: str) -> Base | None:
        index = INDICES.get(name.partition("_")[0])
        if index is None:
            return None
        letters = letter_bands(self.bands, name.removeprefix(index.name))
        if not index.letters <= set(letters):
            return None
        formula = compile_formula(index.formula, letters)
        return Base(name, f"{index.domain} index", index.formula, index.reference, formula)

    def _change(self, name: str) -> Base | None:
        match = CHANGE.fullmatch(name)
        if match is None:
            return None
        late, early = (self.find(f"{match['what']}_{match[date]}") for date in ("late", "early"))
        if late is None or early is None:
            return None
        sign = SIGNS[match["how"]]
        formula = compile_formula(f"late {sign} early", {"late": late.formula, "early": early.formula})
        return Base(name, "change", f"{late.name} {sign} {early.name}", late.reference, formula)


def _band(name: str) -> Base:
    # A band's name may hold what a formula cannot, so it is not compiled from text.
    return Base(name, "band", f"the band {name}", "", Formula(name, frozenset({name}), lambda planes: planes[name]))
