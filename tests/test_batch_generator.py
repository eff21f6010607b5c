"""Keys of a batch: an example draws the same numbers in any part of its batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import batch_generator, objectives, parametrizations, processes, trees

KEY = jax.random.key(3, impl="threefry2x32")
PART = np.array([5, 1, 3])


def part_key():
    return trees.BatchKey(KEY, jnp.asarray(PART), 8).ordinary()


def draws(key, n):
    first, second = jax.random.split(key)
    third = jax.random.fold_in(first, 7)
    return (
        jax.random.uniform(second, (n,)),
        jax.random.normal(third, (n, 2, 3)),
        jax.random.bernoulli(first, 0.5, (n, 4)),
        jax.random.randint(first, (n,), 0, 100),
        jax.random.categorical(third, jnp.zeros((n, 5))),
    )


def test_a_part_draws_the_rows_of_the_whole_batch():
    draw = jax.jit(draws, static_argnums=1)
    whole, part = draw(trees.batch_key(KEY, 8).ordinary(), 8), draw(part_key(), 3)
    for rows, own in zip(whole, part, strict=True):
        np.testing.assert_array_equal(rows[PART], own)
    # Rows differ from each other, and scalars are the same for all parts.
    assert len(np.unique(whole[0])) == 8
    assert jax.random.normal(part_key()) == jax.random.normal(trees.batch_key(KEY, 8).ordinary())


def test_the_numbers_are_random():
    x = np.asarray(jax.random.normal(trees.batch_key(KEY, 20_000).ordinary(), (20_000,)))
    # The standard errors are 0.007 and 0.005.
    assert abs(x.mean()) < 0.03
    assert abs(x.std() - 1) < 0.02
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.03


def test_an_objective_takes_the_key_of_a_part():
    """A loss of one's own may call an objective of ours with the key that it was given."""
    x = jax.random.normal(jax.random.key(0), (8, 2))
    loss = objectives.denoising(processes.flow(), parametrizations.velocity(), lambda p, x, t: p * x)
    whole, _ = loss(0.5, KEY, {"x": x})
    part, _ = loss(0.5, part_key(), {"x": x[PART]})
    np.testing.assert_allclose(whole[PART], part, rtol=1e-6)


def test_a_key_of_another_generator_is_refused():
    with pytest.raises(ValueError, match=r"generator of key = 'rbg'; allowed are 'threefry2x32'"):
        batch_generator.pack(jax.random.key(0, impl="rbg"), jnp.arange(4), 4)


def test_a_key_of_rbg_makes_a_key_of_a_part():
    whole, part = (trees.BatchKey(jax.random.key(0, impl="rbg"), jnp.arange(8)[i], 8) for i in (slice(0, 8), PART))
    drawn = jax.random.normal(whole.ordinary(), (8, 2))
    np.testing.assert_array_equal(jax.random.normal(part.ordinary(), (len(PART), 2)), drawn[jnp.asarray(PART)])
