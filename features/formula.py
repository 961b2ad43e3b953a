"""Compile formulas to array functions, without ever executing their text as Python."""

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError

__all__ = ["Formula", "compile_formula", "is_condition"]

Plane = NDArray[np.float32]

CHUNK = 16_384
"""Pixels that are evaluated at a time: what comes in between then stays in the processor's cache."""

DEPTH = 100
"""Levels of nesting, those of formulas that a formula uses among them."""


class Chunk(dict[str, Plane]):
    """Planes by name, and what formulas made of them, so that one that is used often is computed once."""

    def __init__(self, planes: Mapping[str, Plane]) -> None:
        super().__init__(planes)
        self.made: dict[Node, Any] = {}

    def make(self, part: "Node") -> Any:
        """Return what a formula makes of the planes."""
        if part not in self.made:
            self.made[part] = _finite(part(self))
        return self.made[part]


Node = Callable[[Chunk], Any]

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
COMPARISONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "abs": np.abs,
    "atan": np.arctan,
    "minimum": np.minimum,
    "maximum": np.maximum,
}
BINARY = {"minimum", "maximum"}


@dataclass(frozen=True)
class Formula:
    """A compiled formula.

    Parameters
    ----------
    text : str
    names : frozenset of str
        The planes that it needs.
    depth : int
        Levels of nesting, those of formulas that it uses among them.
    """

    text: str
    names: frozenset[str]
    _apply: Node
    depth: int = 0

    def __call__(self, planes: Mapping[str, Plane]) -> Plane:
        """Evaluate on planes of one shape.

        Returns
        -------
        values : float32, of that shape
            NaN where the result is not finite, such as at a division by zero. Conditions give 1 and 0, and NaN
            where what they compare is NaN.
        """
        shape = next(iter(planes[name] for name in self.names)).shape
        flat = {name: np.ravel(planes[name]) for name in self.names}
        values = np.empty(int(np.prod(shape)), np.float32)
        with np.errstate(all="ignore"):
            for start in range(0, len(values), CHUNK):
                part = slice(start, start + CHUNK)
                values[part] = self._apply(Chunk({name: plane[part] for name, plane in flat.items()}))
        values[~np.isfinite(values)] = np.nan
        return values.reshape(shape)


def compile_formula(text: str, known: Mapping[str, Formula | str] | None = None) -> Formula:
    """Compile a formula of names, numbers, ``+ - * / **``, comparisons, ``and or not``, and `FUNCTIONS`.

    Parameters
    ----------
    text : str
    known : mapping of str to Formula or str, optional
        What names in it stand for: formulas, or planes of another name. Other names are planes.

    Raises
    ------
    FeatureError
        If the text is no formula, or holds anything else.

    Examples
    --------
    >>> ndvi = compile_formula("(N - R) / (N + R)")
    >>> ndvi({"N": np.float32([3, 0]), "R": np.float32([1, 0])})
    array([0.5, nan], dtype=float32)
    >>> compile_formula("0.3 < NDVI < 0.6", {"NDVI": ndvi})({"N": np.float32([3, 9]), "R": np.float32([1, 1])})
    array([1., 0.], dtype=float32)
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FeatureError(
            f"formula {text!r}: expected an expression such as (N - R) / (N + R), got: {error}."
        ) from error
    builder = _Builder(text, known or {})
    apply = builder.build(tree.body, 0)
    if isinstance(apply, float):
        raise FeatureError(f"formula {text!r}: expected the name of a band in it, got a constant.")
    return Formula(text, frozenset(builder.names), apply, builder.depth)


def is_condition(text: str) -> bool:
    """Return whether a formula is a condition, which gives 1 and 0, rather than a number; raises as `compile_formula`.

    >>> is_condition("NDWI > 0 and not cloud"), is_condition("(N - R) / (N + R)")
    (True, False)
    """
    compile_formula(text)
    match ast.parse(text.strip(), mode="eval").body:
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return True
    return False


class _Builder:
    """Turns a formula's tree into nested functions; parts without a plane become numbers at once."""

    def __init__(self, text: str, known: Mapping[str, Formula | str]) -> None:
        self.text, self.known = text, known
        self.names: set[str] = set()
        self.depth = 0

    def build(self, node: ast.expr, depth: int) -> Node | float:
        self._deepen(depth)
        match node:
            case ast.Name(id=name):
                return self._plane(name, depth)
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._apply(lambda inner: 1 - _truth(inner), [operand], depth)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                return self._apply(OPERATORS[type(op)], [operand], depth)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return self._apply(OPERATORS[type(op)], [left, right], depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS and len(args) == 1 + (
                name in BINARY
            ):
                return self._apply(FUNCTIONS[name], args, depth)
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
                steps = [COMPARISONS[type(op)] for op in ops]
                return self._apply(lambda *sides: _compare(sides, steps), [left, *others], depth)
            case ast.BoolOp(op=op, values=values):
                extreme = np.minimum if isinstance(op, ast.And) else np.maximum
                return self._apply(lambda *parts: reduce(extreme, map(_truth, parts)), values, depth)
        raise FeatureError(
            f"formula {self.text!r}: expected names, numbers, + - * / **, comparisons, and, or, not, and "
            f"{', '.join(FUNCTIONS)}, got {ast.unparse(node)}."
        )

    def _deepen(self, depth: int) -> None:
        self.depth = max(self.depth, depth)
        if depth > DEPTH:
            raise FeatureError(
                f"formula {self.text[:60]!r}…: expected at most {DEPTH} levels of nesting, those of formulas that it "
                "uses among them, got more."
            )

    def _plane(self, name: str, depth: int) -> Node:
        meant = self.known.get(name, name)
        if isinstance(meant, Formula):
            self._deepen(depth + meant.depth + 1)
            self.names |= meant.names
            part = meant._apply
            return lambda planes: planes.make(part)
        self.names.add(meant)
        return lambda planes: planes[meant]

    def _apply(self, function: Callable[..., Any], nodes: Sequence[ast.expr], depth: int) -> Node | float:
        parts = [self.build(node, depth + 1) for node in nodes]
        numbers = [np.float64(part) for part in parts if isinstance(part, float)]
        if len(numbers) == len(parts):
            with np.errstate(all="ignore"):
                return self._number(function(*numbers))
        # A Python number keeps float32 arrays float32.
        getters = [_constant(part) if isinstance(part, float) else part for part in parts]
        return lambda planes: function(*(getter(planes) for getter in getters))

    def _number(self, value: Any) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise FeatureError(
                f"formula {self.text[:60]!r}: expected finite numbers, got {number} from constants in it."
            )
        return number


def _constant(number: float) -> Node:
    return lambda planes: number


def _finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _compare(sides: Sequence[Any], steps: Sequence[Callable[..., Any]]) -> Any:
    holds = reduce(np.logical_and, [step(*pair) for step, *pair in zip(steps, sides, sides[1:], strict=False)])
    known = reduce(np.logical_and, map(np.isfinite, sides))
    return np.where(known, np.asarray(holds, np.float32), np.float32(np.nan))


def _truth(values: Any) -> Any:
    return np.where(np.isfinite(values), np.asarray(np.not_equal(values, 0), np.float32), np.float32(np.nan))
