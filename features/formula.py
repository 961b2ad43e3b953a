"""Formulas as text, compiled to array functions without ever being executed as Python."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError

__all__ = ["Formula", "compile_formula"]

Plane = NDArray[np.float32]
Node = Callable[[Mapping[str, Plane]], Any]

CHUNK = 16_384
"""Pixels that are evaluated at a time: what comes in between then stays in the processor's cache."""

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
    """

    text: str
    names: frozenset[str]
    _apply: Node

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
                values[part] = self._apply({name: plane[part] for name, plane in flat.items()})
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
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FeatureError(
            f"formula {text!r}: expected an expression such as (N - R) / (N + R), got: {error}."
        ) from error
    names: set[str] = set()
    apply = _build(tree.body, text, names, known or {})
    if not names:
        raise FeatureError(f"formula {text!r}: expected the name of a band in it, got a constant.")
    return Formula(text, frozenset(names), apply)


def _build(node: ast.expr, text: str, names: set[str], known: Mapping[str, Formula | str]) -> Node:
    def build(inner: ast.expr) -> Node:
        return _build(inner, text, names, known)

    match node:
        case ast.Name(id=name):
            meant = known.get(name, name)
            if isinstance(meant, Formula):
                names |= meant.names
                part = meant._apply
                return lambda planes: _finite(part(planes))
            names.add(meant)
            return lambda planes: planes[meant]
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            # A Python number keeps float32 arrays float32.
            number = float(value)
            return lambda planes: number
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            unary, inner = OPERATORS[type(op)], build(operand)
            return lambda planes: unary(inner(planes))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            binary, first, second = OPERATORS[type(op)], build(left), build(right)
            return lambda planes: binary(first(planes), second(planes))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS and len(args) == 1 + (
            name in BINARY
        ):
            function, inners = FUNCTIONS[name], [build(argument) for argument in args]
            return lambda planes: function(*(inner(planes) for inner in inners))
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in COMPARISONS for op in ops):
            sides = [build(side) for side in (left, *comparators)]
            steps = [COMPARISONS[type(op)] for op in ops]
            return lambda planes: _compare([side(planes) for side in sides], steps)
        case ast.BoolOp(op=op, values=values):
            extreme = np.minimum if isinstance(op, ast.And) else np.maximum
            conditions = [build(value) for value in values]
            return lambda planes: extreme.reduce([_truth(condition(planes)) for condition in conditions])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            condition = build(operand)
            return lambda planes: 1 - _truth(condition(planes))
    raise FeatureError(
        f"formula {text!r}: expected names, numbers, + - * / **, comparisons, and, or, not, and "
        f"{', '.join(FUNCTIONS)}, got {ast.unparse(node)}."
    )


def _finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _compare(sides: list[Any], steps: list[Callable[..., Any]]) -> Any:
    holds: Any = np.logical_and.reduce([step(*pair) for step, *pair in zip(steps, sides, sides[1:], strict=False)])
    unknown = np.logical_or.reduce([np.isnan(side) for side in np.broadcast_arrays(*sides)])
    return np.where(unknown, np.float32(np.nan), holds.astype(np.float32))


def _truth(values: Any) -> Any:
    return np.where(np.isnan(values), np.float32(np.nan), (values != 0).astype(np.float32))
