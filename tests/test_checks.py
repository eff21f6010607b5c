"""The checks of arguments: what each one allows, and the error that it raises."""

import math

import numpy as np
import pytest

from jaxdiff import checks

ALLOWED = [
    (checks.require, True, "x", 0, "anything"),
    (checks.integer, "n", 1),
    (checks.integer, "n", np.int64(3), 3, 3),
    (checks.positive, "rate", 1e-300),
    (checks.not_negative, "rate", 0),
    (checks.fraction, "part", 0),
    (checks.fraction, "part", np.float32(1)),
    (checks.one_of, "kind", "a", ("a", "b")),
]


@pytest.mark.parametrize(("check", "arguments"), [(check, rest) for check, *rest in ALLOWED])
def test_allowed(check, arguments):
    check(*arguments)


@pytest.mark.parametrize(
    ("check", "arguments", "error"),
    [
        (checks.require, (False, "x.shape", (3,), "[batch, *event]"), "x.shape = (3,); allowed are [batch, *event]"),
        (checks.integer, ("n", 0), "n = 0; allowed are integers of at least 1"),
        (checks.integer, ("n", 5, 2, 4), "n = 5; allowed are integers from 2 to 4"),
        (checks.integer, ("n", 2.0), "n = 2.0; allowed are integers of at least 1"),
        (checks.integer, ("n", True), "n = True; allowed are integers of at least 1"),
        (checks.positive, ("rate", 0), "rate = 0; allowed are finite numbers above 0"),
        (checks.positive, ("rate", math.inf), "rate = inf; allowed are finite numbers above 0"),
        (checks.positive, ("rate", math.nan), "rate = nan; allowed are finite numbers above 0"),
        (checks.positive, ("rate", "1"), "rate = '1'; allowed are finite numbers above 0"),
        (checks.positive, ("rate", True), "rate = True; allowed are finite numbers above 0"),
        (checks.not_negative, ("rate", -1e-9), "rate = -1e-09; allowed are finite numbers of at least 0"),
        (checks.not_negative, ("rate", None), "rate = None; allowed are finite numbers of at least 0"),
        (checks.fraction, ("part", 1.5), "part = 1.5; allowed are numbers from 0 to 1"),
        (checks.fraction, ("part", math.nan), "part = nan; allowed are numbers from 0 to 1"),
        (checks.one_of, ("kind", "x", ("alpha", "beta")), "kind = 'x'; allowed are 'alpha', 'beta'"),
        (checks.one_of, ("kind", "Alpa", ("alpha", "beta")),
         "kind = 'Alpa'; allowed are 'alpha', 'beta'; did you mean 'alpha'?"),
        (checks.one_of, ("kind", 3, ("alpha", 1)), "kind = 3; allowed are 'alpha', 1"),
        (checks.one_of, ("kind", "x" * 10**6, ("alpha",)), f"kind = '{'x' * 299}...; allowed are 'alpha'"),
    ],
)  # fmt: skip
def test_refused(check, arguments, error):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        check(*arguments)
    assert str(raised.value) == error


def test_require_raises_the_asked_kind():
    with pytest.raises(TypeError, match="dtype = 'int32'; allowed are floating-point types"):
        checks.require(False, "dtype", "int32", "floating-point types", TypeError)


@pytest.mark.parametrize(
    ("word", "words", "nearest"),
    [
        ("stepz", ["steps", "stops"], "steps"),
        ("--steps", ["--train.steps", "--train.seed"], "--train.steps"),
        ("Batch_Size", ["batch-size"], "batch-size"),
        ("learning_rate", ["steps", "seed"], None),
        ("steps", [], None),
        ("x", ["", None], None),
    ],
)
def test_did_you_mean(word, words, nearest):
    assert checks.did_you_mean(word, words) == (f"; did you mean {nearest!r}?" if nearest else "")


def test_one_line():
    assert checks.one_line(ValueError("two\n   lines")) == "two lines"
    assert checks.one_line(KeyError()) == "KeyError"
    assert checks.one_line(ValueError("a" * 11), limit=10) == "a" * 10 + "..."
