"""Losses as the experiment file names them: `ce`, `ce+dice`, `0.3 bce + 0.5 jaccard + 0.2 focal`."""

import re
from difflib import get_close_matches
from typing import Literal, cast, get_args

__all__ = ["LOSS_NAMES", "LossName", "parse_loss"]

LossName = Literal["ce", "bce", "focal", "dice", "jaccard", "tversky", "lovasz", "mcc", "boundary"]
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)

TERM = re.compile(r"\s*(?:(\d+\.?\d*(?:e-?\d+)?|\.\d+)\s*\*?)?\s*([a-zA-Z]\w*)\s*")


def parse_loss(text: str) -> dict[LossName, float]:
    """Read a weighted sum of losses.

    >>> parse_loss("0.3 bce + 0.5 jaccard + .2*focal")
    {'bce': 0.3, 'jaccard': 0.5, 'focal': 0.2}
    >>> parse_loss("ce+dice")
    {'ce': 1.0, 'dice': 1.0}

    Raises
    ------
    ValueError
        If a term is no loss, comes twice, or has no weight above 0.
    """
    terms: dict[LossName, float] = {}
    for term in text.split("+"):
        match = TERM.fullmatch(term)
        if match is None:
            raise ValueError(f"expected a sum of losses such as `0.5 ce + 0.5 dice`, got {term.strip()!r} in {text!r}")
        name, weight = match[2].lower(), float(match[1] or 1)
        if name not in LOSS_NAMES:
            near = get_close_matches(name, LOSS_NAMES, n=2)
            hint = f". Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"expected losses among {', '.join(LOSS_NAMES)}, got {name}{hint}")
        if name in terms or weight == 0:
            raise ValueError(f"expected each loss once, with a weight above 0, got {term.strip()!r} in {text!r}")
        terms[cast(LossName, name)] = weight
    return terms
