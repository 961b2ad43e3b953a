"""Formulas as text, compiled to array functions without ever being executed as Python."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.errors import FeatureError

__all__ = ["Formula", "compile_formula"]

Plane = NDArray[np.float32]
Node = Callable[[Mapping[str, Plane]], Plane]

OPERATORS: dict[type[ast.AST], Callable[..., Plane]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., Plane]] = {
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "abs": np.abs,
    "minimum": np.minimum,
    "maximum": np.maximum,
}


@dataclass(frozen=True)
class Formula:
    """A compiled formula.

    Parameters
    ----------
    text : str
    names : frozenset of str
        The variables that it needs.
    """

    text: str
    names: frozenset[str]
    _apply: Node

    def __call__(self, planes: Mapping[str, Plane]) -> Plane:
        """Evaluate on planes of one shape; NaN where the result is not finite, such as at a division by zero."""
        with np.errstate(all="ignore"):
            result = np.asarray(self._apply(planes), np.float32)
        return np.where(np.isfinite(result), result, np.float32(np.nan))


@lru_cache(maxsize=1024)
def compile_formula(text: str) -> Formula:
    """Compile a formula of names, numbers, ``+ - * / **``, and `FUNCTIONS`.

    Raises
    ------
    FeatureError
        If the text is no formula, or holds anything else.

    Examples
    --------
    >>> ndvi = compile_formula("(N - R) / (N + R)")
    >>> ndvi({"N": np.float32([3, 0]), "R": np.float32([1, 0])})
    array([0.5, nan], dtype=float32)
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise FeatureError(
            f"formula {text!r}: expected an expression such as (N - R) / (N + R), got: {error.msg}."
        ) from error
    names: set[str] = set()
    apply = _build(tree.body, text, names)
    return Formula(text, frozenset(names), apply)


def _build(node: ast.expr, text: str, names: set[str]) -> Node:
    match node:
        case ast.Name(id=name):
            names.add(name)
            return lambda planes: planes[name]
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            # A Python number keeps float32 arrays float32.
            return lambda planes: value  # type: ignore[return-value]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            unary, inner = OPERATORS[type(op)], _build(operand, text, names)
            return lambda planes: unary(inner(planes))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            binary, first, second = OPERATORS[type(op)], _build(left, text, names), _build(right, text, names)
            return lambda planes: binary(first(planes), second(planes))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            function, inners = FUNCTIONS[name], [_build(argument, text, names) for argument in args]
            return lambda planes: function(*(inner(planes) for inner in inners))
    raise FeatureError(
        f"formula {text!r}: expected names, numbers, + - * / ** and {', '.join(FUNCTIONS)}, got {ast.unparse(node)}."
    )
