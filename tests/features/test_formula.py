from functools import reduce

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data.errors import FeatureError
from features.formula import CHUNK, FUNCTIONS, compile_formula

NAN = np.nan


def evaluate(text, known=None, **planes):
    """Evaluate a formula on lists of values."""
    return compile_formula(text, known)({name: np.float32(values) for name, values in planes.items()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", 5),
        ("a - b", -1),
        ("a * b", 6),
        ("a / b", 2 / 3),
        ("a ** b", 8),
        ("-a", -2),
        ("+a", 2),
        ("a - b - 1", -2),
        ("a - (b - 1)", 0),
        ("a + b * 2", 8),
        ("-a ** 2", -4),
        ("2 ** b ** a", 512),
        ("a / 2 * b", 3),
        ("1.5e1 * a", 30),
        (" a\t+ b ", 5),
    ],
)
def test_arithmetic_has_the_precedence_it_has_on_paper(text, expected):
    np.testing.assert_allclose(evaluate(text, a=[2], b=[3]), [expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqrt(a)", 2),
        ("log(a)", np.log(4)),
        ("exp(b)", np.exp(-3)),
        ("abs(b)", 3),
        ("atan(a)", np.arctan(4)),
        ("minimum(a, b)", -3),
        ("maximum(a, b)", 4),
        ("maximum(b, 0)", 0),
        ("sqrt(abs(b) + maximum(a, 6))", 3),
        ("sqrt(9) * a", 12),
    ],
)
def test_functions_are_numpys(text, expected):
    np.testing.assert_allclose(evaluate(text, a=[4], b=[-3]), [expected], rtol=1e-6)


def test_functions_are_only_those_that_are_listed():
    assert set(FUNCTIONS) == {"sqrt", "log", "exp", "abs", "atan", "minimum", "maximum"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", [1, 0, 0, NAN]),
        ("a <= b", [1, 1, 0, NAN]),
        ("a > b", [0, 0, 1, NAN]),
        ("a >= b", [0, 1, 1, NAN]),
        ("a == b", [0, 1, 0, NAN]),
        ("a != b", [1, 0, 1, NAN]),
        ("b < a", [0, 0, 1, NAN]),
        ("a < 3", [1, 1, 0, NAN]),
        ("3 > a", [1, 1, 0, NAN]),
        ("a + 1 < b * 2", [1, 1, 0, NAN]),
    ],
)
def test_a_comparison_is_1_or_0_and_unknown_where_a_side_is(text, expected):
    np.testing.assert_array_equal(evaluate(text, a=[1, 2, 5, NAN], b=[2, 2, 2, 2]), np.float32(expected))


def test_chained_comparisons_hold_where_each_holds():
    values = [-1, 0, 1, 2, 3, NAN]
    np.testing.assert_array_equal(evaluate("0 < a <= 2", a=values), np.float32([0, 0, 1, 1, 0, NAN]))
    np.testing.assert_array_equal(evaluate("a < b > 0", a=[1, 1, 1], b=[2, NAN, 1]), np.float32([1, NAN, 0]))


def test_a_comparison_with_a_constant_is_made_in_float32():
    assert evaluate("a == 0.1", a=[0.1]) == 1
    assert evaluate("a >= 0.1", a=[0.1]) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a and b", [1, 0, 0, 0]),
        ("a or b", [1, 1, 1, 0]),
        ("not a", [0, 0, 1, 1]),
        ("a and not b", [0, 1, 0, 0]),
        ("not (a or b)", [0, 0, 0, 1]),
        ("not a or b", [1, 0, 1, 1]),
        ("a > 1 and b > 1 or a == b", [1, 0, 0, 1]),
        ("a and b and a", [1, 0, 0, 0]),
    ],
)
def test_conditions_are_joined_by_and_or_not(text, expected):
    # Whatever is not 0 is true.
    np.testing.assert_array_equal(evaluate(text, a=[2, -1, 0, 0], b=[5, 0, 0.5, 0]), np.float32(expected))


@pytest.mark.parametrize("text", ["a and b", "a or b", "b and a", "b or a", "not a", "a > 0 or b > 0", "not (a < b)"])
@pytest.mark.parametrize("other", [0, 1])
def test_what_is_unknown_stays_unknown_through_every_condition(text, other):
    assert np.isnan(evaluate(text, a=[NAN], b=[other]))


def test_conditions_can_be_counted_with():
    np.testing.assert_array_equal(
        evaluate("(a > 0) * b + (a <= 0) * 9", a=[1, -1, NAN], b=[5, 5, 5]), np.float32([5, 9, NAN])
    )


@pytest.mark.parametrize(
    "text", ["a / b", "b / b", "a / (b - b)", "1 / b", "log(b)", "log(-a)", "sqrt(-a)", "exp(1000 * a)", "a ** 200"]
)
def test_what_is_not_finite_is_nan(text):
    assert np.isnan(evaluate(text, a=[7], b=[0]))


def test_a_formula_that_is_not_finite_is_unknown_in_another_formulas_condition():
    ratio = compile_formula("a / b")
    planes = {"a": [1, 1, 0], "b": [0, 0.5, 0]}
    for text, expected in (
        ("ratio > 1", [NAN, 1, NAN]),
        ("ratio < 9", [NAN, 1, NAN]),
        ("not ratio", [NAN, 0, NAN]),
        ("ratio and a", [NAN, 1, NAN]),
        ("0 < ratio < 9", [NAN, 1, NAN]),
        ("maximum(ratio, 5)", [NAN, 5, NAN]),
        ("1 / ratio", [NAN, 0.5, NAN]),
        ("atan(ratio) > 0", [NAN, 1, NAN]),
    ):
        np.testing.assert_array_equal(evaluate(text, {"ratio": ratio}, **planes), np.float32(expected), err_msg=text)


def test_a_known_name_stands_for_a_formula_or_for_another_plane():
    ndvi = compile_formula("(N - R) / (N + R)", {"N": "nir08", "R": "red"})
    assert ndvi.names == {"nir08", "red"}
    dense = compile_formula("NDVI > low", {"NDVI": ndvi})
    assert dense.names == {"nir08", "red", "low"}
    np.testing.assert_array_equal(
        evaluate("NDVI > low", {"NDVI": ndvi}, nir08=[3, 1], red=[1, 1], low=[0.4, 0.4]), np.float32([1, 0])
    )


def test_a_formula_that_others_use_twice_is_computed_once():
    formula = compile_formula("a")
    for _ in range(49):  # Computed at each use the last would take 2 ** 49 steps.
        formula = compile_formula("half + half", {"half": formula})
    np.testing.assert_array_equal(formula({"a": np.float32([3, NAN])}), np.float32([3 * 2.0**49, NAN]))


def test_a_chain_of_formulas_is_as_deep_as_one_formula_may_be():
    steps = ["-last"] * 1000
    with pytest.raises(FeatureError, match="those of formulas that it uses among them"):
        reduce(lambda last, text: compile_formula(text, {"last": last}), steps, compile_formula("a"))


def test_a_plane_may_be_named_like_a_function():
    np.testing.assert_array_equal(evaluate("log + log(log)", log=[1]), np.float32([1]))


def test_text_and_names_are_kept():
    formula = compile_formula("a + c * a")
    assert formula.text == "a + c * a"
    assert formula.names == {"a", "c"}


@pytest.mark.parametrize(
    "text",
    [
        "a.real",
        "a.__class__",
        "__import__('os')",
        "eval(a)",
        "round(a)",
        "np.sqrt(a)",
        "sqrt()",
        "sqrt(a, b)",
        "minimum(a)",
        "maximum(a, b, c)",
        "sqrt(x=a)",
        "sqrt(a, out=b)",
        "sqrt(*a)",
        "sqrt(**a)",
        "(lambda: a)()",
        "lambda: a",
        "[a]",
        "(a, b)",
        "{a}",
        "{'a': a}",
        "[b for b in a]",
        "'a'",
        "a + 'b'",
        "f'{a}'",
        "b'a'",
        "a and True",
        "a + None",
        "a + ...",
        "a + 1j",
        "a[0]",
        "a[:]",
        "(b := a)",
        "b = a",
        "a if b else c",
        "a in b",
        "a is b",
        "a // b",
        "a % b",
        "a @ b",
        "a & b",
        "a | b",
        "a ^ b",
        "a << b",
        "~a",
        "await a",
        "a; b",
        "a\nb",
        "import os",
        "a +",
        "a b",
        "(a",
        "a)",
        "a\0",
        "$a",
        "",
        "   ",
        "# a",
    ],
)
def test_whatever_else_python_has_is_refused(text):
    with pytest.raises(FeatureError, match="formula"):
        compile_formula(text)


@pytest.mark.parametrize("text", ["1", "1 + 2", "sqrt(2)", "-1", "1 < 2", "not 0"])
def test_a_constant_is_no_formula(text):
    with pytest.raises(FeatureError, match="got a constant"):
        compile_formula(text)


@pytest.mark.parametrize("text", ["(" * 500, "(" * 500 + "a" + ")" * 500, "sqrt(" * 500 + "a" + ")" * 500])
def test_deep_nesting_is_refused(text):
    with pytest.raises(FeatureError, match="formula"):
        compile_formula(text)


def test_a_refusal_shows_the_formula_and_what_is_wrong_in_it():
    with pytest.raises(FeatureError, match=r"formula 'a \+ b\.real': expected names, numbers.* got b\.real\."):
        compile_formula("a + b.real")
    with pytest.raises(FeatureError, match=r"formula 'a \+': expected an expression such as .* got: "):
        compile_formula("a +")


@pytest.mark.parametrize("text", ["a", "a + 1", "a * 0.1", "a > 0", "a and a", "not a", "sqrt(a)", "exp(0.5) * a"])
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), (2, 3, 4), (0,), (0, 7)])
def test_values_are_float32_of_the_planes_shape(text, shape):
    values = compile_formula(text)({"a": np.ones(shape, np.float32)})
    assert values.dtype == np.float32
    assert values.shape == shape


def test_the_planes_are_left_as_they_are():
    plane = np.float32([1, np.inf, NAN])
    values = compile_formula("a")({"a": plane})
    np.testing.assert_array_equal(values, np.float32([1, NAN, NAN]))
    np.testing.assert_array_equal(plane, np.float32([1, np.inf, NAN]))
    values[:] = 0
    assert plane[0] == 1


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77])
def test_a_plane_of_several_chunks_has_the_values_of_one_piece(size):
    rng = np.random.default_rng(size)
    n, r = rng.normal(0, 1, (2, size)).astype(np.float32)
    n[rng.random(size) < 0.1] = NAN
    ndvi = compile_formula("(n - r) / (n + r)")
    np.testing.assert_array_equal(ndvi({"n": n, "r": r}), (n - r) / (n + r))
    within = compile_formula("0 < ndvi < 0.5 or r > 1", {"ndvi": ndvi})({"n": n, "r": r})
    contrast = (n - r) / (n + r)
    expected = ((contrast > 0) & (contrast < 0.5) | (r > 1)).astype(np.float32)
    np.testing.assert_array_equal(within, np.where(np.isnan(n), NAN, expected))


def test_a_view_of_a_large_scene_has_the_values_of_its_copy():
    scene = np.random.default_rng(0).normal(0, 1, (400, 300)).astype(np.float32)
    view = scene[::-2, 5:290].T
    assert view.size > CHUNK
    np.testing.assert_array_equal(compile_formula("exp(a) - a")({"a": view}), np.exp(view) - view)


numbers = st.integers(0, 9).map(str) | st.sampled_from(["0.5", "2.25", "1e-3"])
names = st.sampled_from("abc")
expressions = st.recursive(
    names | numbers,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda part: f"-{part}")
    ),
    max_leaves=12,
)
comparisons = st.lists(names | names.map(lambda name: f"{name} * 2"), min_size=2, max_size=4).flatmap(
    lambda sides: st.lists(
        st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=len(sides) - 1, max_size=len(sides) - 1
    ).map(lambda signs: " ".join([sides[0], *(f"{sign} {side}" for sign, side in zip(signs, sides[1:], strict=True))]))
)
conditions = st.recursive(
    comparisons,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda part: f"(not {part})")
    ),
    max_leaves=6,
)


@given(expressions, st.lists(st.floats(-100, 100), min_size=3, max_size=3))
def test_a_random_expression_has_the_value_that_python_gives_it(text, values):
    given_values = dict(zip("abc", values, strict=True))
    assume(any(name in text.replace("e-3", "") for name in given_values))
    try:
        expected = eval(text, {}, given_values)
    except ZeroDivisionError:
        assume(False)
    # Planes in float64 as Python's numbers: a difference of near-equal values would lose too much in float32.
    found = compile_formula(text)({name: np.array([value]) for name, value in given_values.items()})
    assert found.dtype == np.float32
    if abs(expected) < float(np.finfo(np.float32).max):
        np.testing.assert_allclose(found, [expected], rtol=1e-6, atol=1e-30)
    else:
        assert np.isnan(found)


@given(conditions, st.lists(st.integers(-2, 2), min_size=3, max_size=3))
def test_a_random_condition_holds_where_python_says_so(text, values):
    given_values = dict(zip("abc", values, strict=True))
    expected = eval(text, {}, given_values)
    assert evaluate(text, **{name: [value] for name, value in given_values.items()}) == float(expected)


@given(conditions, st.lists(st.sampled_from([-1, 0, 1, NAN]), min_size=3, max_size=3))
def test_a_condition_is_unknown_exactly_where_a_value_in_it_is(text, values):
    given_values = dict(zip("abc", values, strict=True))
    formula = compile_formula(text)
    found = formula({name: np.float32([value]) for name, value in given_values.items()})
    assert np.isnan(found) == any(np.isnan(given_values[name]) for name in formula.names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 < 1 < a", [0, 1]),
        ("a < 1 < 2", [1, 0]),
        ("a and 1", [1, 1]),
        ("not 1 or a", [1, 1]),
        ("a > 1 and 1 > 0", [0, 1]),
        ("1 > 2 or a > 1", [0, 1]),
    ],
)
def test_conditions_may_hold_constants(text, expected):
    assert compile_formula(text)({"a": np.float32([0.5, 2])}).tolist() == expected


@pytest.mark.parametrize("text", ["a + 1 / 0", "a * 0 ** -1", "a * 10 ** 400", "a + (-1) ** 0.5", "a * " + "9" * 400])
def test_constants_that_come_to_nothing_finite_are_refused(text):
    with pytest.raises(FeatureError, match="expected finite numbers"):
        compile_formula(text)


@pytest.mark.parametrize(
    "text", ["-" * 2000 + "a", "not " * 1200 + "a", "+".join("a" * 950), "abs(" * 190 + "a" + ")" * 190]
)
def test_what_is_nested_too_deep_is_refused(text):
    with pytest.raises(FeatureError, match="expected"):
        compile_formula(text)


def test_what_is_infinite_is_unknown_in_a_condition_too():
    planes = {"N": np.float32([1, 4]), "R": np.float32([0, 2])}
    assert np.isnan(compile_formula("N / R > 1")(planes)[0])
    assert compile_formula("N / R > 1")(planes)[1] == 1
