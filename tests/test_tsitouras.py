"""Tsitouras' pair: its coefficients by the order conditions, in float64."""

import itertools

import numpy as np

from jaxdiff.probability_flow.tsitouras import A, C, E


def _conditions(order):
    """Rooted trees with up to `order` nodes, as pairs `(vector of a tree, 1 / its density)`; Hairer et al., II.2."""
    trees = {1: [(np.ones(7), 1)]}  # (the product of the branches, the density over the number of nodes)
    for size in range(2, order + 1):
        trees[size] = []
        for parts in _partitions(size - 1):
            choices = [range(len(trees[part])) for part in parts]
            seen = set()
            for which in itertools.product(*choices):
                key = tuple(sorted(zip(parts, which, strict=True)))
                if key in seen:
                    continue
                seen.add(key)
                vector, density = np.ones(7), 1
                for part, i in key:
                    branch, inner = trees[part][i]
                    vector, density = vector * (A @ branch), density * inner * part
                trees[size].append((vector, density))
    return [(vector, 1 / (density * size)) for size in trees for vector, density in trees[size]]


def _partitions(total, least=1):
    if total == 0:
        yield ()
    for first in range(least, total + 1):
        for rest in _partitions(total - first, first):
            yield (first, *rest)


def test_order_conditions():
    """The 17 conditions of order 5 for the step, the 8 of order 4 for its companion, which misses some of order 5."""
    np.testing.assert_allclose(A.sum(axis=1), C, atol=1e-14)
    five, four = _conditions(5), _conditions(4)
    assert (len(five), len(four)) == (17, 8)
    for vector, wanted in five:
        np.testing.assert_allclose(A[6] @ vector, wanted, atol=1e-14)
    for vector, _ in four:
        np.testing.assert_allclose(E @ vector, 0, atol=1e-14)
    assert max(abs(E @ vector) for vector, _ in five) > 1e-5
