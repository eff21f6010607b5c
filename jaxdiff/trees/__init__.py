"""Pytrees: the core of the library touches data only through these functions.

- `registration`: dataclasses as pytrees
- `structure`: what a pytree is made of: its structure, and the shapes, types and names of its leaves
- `examples`: the examples of a batch, which are the first axis of every leaf
- `algebra`: linear combinations and inner products
- `keys`: random keys, one for a batch or one for each example
- `noise`: random numbers of the shape of a pytree
"""

from jaxdiff.trees.algebra import event_size, inner, lincomb, mean_square, std
from jaxdiff.trees.examples import batch_size, broadcast_examples, deinterleave, expand, flat, interleave, per_example
from jaxdiff.trees.keys import BatchKey, as_key, batch_key, each, example_keys, fold_in, of_example, split
from jaxdiff.trees.noise import normal_like, rademacher_like, uniform
from jaxdiff.trees.registration import register
from jaxdiff.trees.structure import (
    ByValue,
    cast_like,
    check_alike,
    check_floating,
    equal,
    is_stacked,
    name_of,
    same_structure,
    traced,
    wide,
    words_of,
)

__all__ = [
    "BatchKey",
    "ByValue",
    "as_key",
    "batch_key",
    "batch_size",
    "broadcast_examples",
    "cast_like",
    "check_alike",
    "check_floating",
    "deinterleave",
    "each",
    "equal",
    "event_size",
    "example_keys",
    "expand",
    "flat",
    "fold_in",
    "inner",
    "interleave",
    "is_stacked",
    "lincomb",
    "mean_square",
    "name_of",
    "normal_like",
    "of_example",
    "per_example",
    "rademacher_like",
    "register",
    "same_structure",
    "split",
    "std",
    "traced",
    "uniform",
    "wide",
    "words_of",
]
