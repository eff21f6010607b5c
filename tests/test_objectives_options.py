"""The denoising loss's options: conditions and their dropout, learned variances, keys, pytrees, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import PROCESSES

from jaxdiff import parametrizations
from jaxdiff.objectives import denoising, drop_condition, times, weightings
from jaxdiff.parametrizations import raw_time_input
from jaxdiff.trees import BatchKey

KEY = jax.random.key(0)


def test_dropped_conditions():
    rate, n = 0.1, 20_000
    cond = {"label": jnp.arange(n) % 10, "text": jnp.ones((n, 3))}
    null = {"label": 10, "text": jnp.array([-1.0, -2.0, -3.0])}
    got = drop_condition(KEY, cond, null, rate)
    dropped = np.asarray(got["label"]) == 10
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / n)
    np.testing.assert_array_equal(got["label"], np.where(dropped, 10, cond["label"]))
    np.testing.assert_array_equal(got["text"], np.where(dropped[:, None], [-1.0, -2.0, -3.0], 1.0))
    assert got["label"].dtype == cond["label"].dtype
    again = drop_condition(KEY, cond, null, rate)
    np.testing.assert_array_equal(again["label"], got["label"])
    assert np.any(drop_condition(jax.random.key(1), cond, null, rate)["label"] != got["label"])
    for always, want in ((0.0, cond["label"]), (1.0, np.full(n, 10))):
        np.testing.assert_array_equal(drop_condition(KEY, cond, null, always)["label"], want)


def test_the_network_is_given_conditions_and_some_are_dropped():
    process = PROCESSES["vp_linear"]

    def network(params, x, time, cond):  # the target is 0 as the data are, and the loss is the condition
        return jnp.broadcast_to(jnp.sqrt(cond)[:, None], x.shape)

    batch = {"x": jnp.zeros((500, 2)), "cond": jnp.arange(500) % 7}
    for dropout in (0.0, 0.3):
        told = jax.jit(denoising(process, parametrizations.x0(), network, null=7, dropout=dropout))(None, KEY, batch)[0]
        told = np.round(told)  # sqrt and square
        dropped = told == 7
        np.testing.assert_array_equal(told, np.where(dropped, 7, batch["cond"]))
        assert abs(dropped.mean() - dropout) <= 4 * np.sqrt(dropout * (1 - dropout) / 500)


def test_a_loss_depends_on_its_own_example_alone():
    """Other data and another condition for example 2 change its loss, and no bit of any other loss."""
    process = PROCESSES["flow"]

    def network(params, x, time, cond):
        return jnp.tanh(params * x + (time / 1000 + cond)[:, None, None])

    objective = jax.jit(denoising(process, parametrizations.velocity(), network, null=-1.0, dropout=0.5))
    x, cond = jax.random.normal(jax.random.key(1), (6, 3, 2)), jnp.arange(6.0)
    before, _ = objective(0.7, KEY, {"x": x, "cond": cond})
    after, _ = objective(0.7, KEY, {"x": x.at[2].add(1.0), "cond": cond.at[2].set(3.0)})
    assert before.shape == (6,)
    np.testing.assert_array_equal(np.delete(before, 2), np.delete(after, 2))
    assert before[2] != after[2]
    _, slopes = jax.jvp(lambda p: objective(p, KEY, {"x": x, "cond": cond})[0], (0.7,), (1.0,))
    up, down = (objective(0.7 + h, KEY, {"x": x, "cond": cond})[0] for h in (1e-2, -1e-2))
    np.testing.assert_allclose(slopes, (up - down) / 2e-2, rtol=1e-2, atol=1e-3)


def test_pytree_data_is_one_long_vector(x64):
    """The mean is over the coordinates of all leaves: here 3 with an error of 1 and 8 with an error of 2."""
    process = PROCESSES["vp_cosine"]
    x0 = {"a": jnp.zeros((5, 3)), "b": jnp.zeros((5, 2, 4))}

    def network(params, x, t):
        return {"a": jnp.ones_like(x["a"]), "b": jnp.full_like(x["b"], 2.0)}

    losses, _ = jax.jit(denoising(process, parametrizations.x0(), network))(None, KEY, {"x": x0})
    np.testing.assert_allclose(losses, np.full(5, (3 * 1 + 8 * 4) / 11), rtol=1e-12)


def test_learned_log_variance_is_least_at_the_log_of_the_loss(x64):
    """At u = log(loss), the loss `loss/e^u + u` is 1 + log(loss), and its derivative is 0."""
    process, batch = PROCESSES["edm"], {"x": jnp.ones((4, 2))}
    make = {"weighting": weightings.edm(), "times": times.log_normal()}
    plain, metrics = jax.jit(
        denoising(process, parametrizations.edm(time_input=raw_time_input), lambda p, x, t: 0.3 * x, **make)
    )(None, KEY, batch)

    def log_variance(u, time):  # NaN unless it is given the network's time input, which is the raw time here
        return jnp.where(time == metrics["t"], u, jnp.nan)

    objective = jax.jit(
        denoising(
            process,
            parametrizations.edm(time_input=raw_time_input),
            lambda p, x, t: 0.3 * x,
            log_variance=log_variance,
            **make,
        )
    )
    u = jnp.log(plain)
    np.testing.assert_allclose(objective(u + 0.7, KEY, batch)[0], plain * np.exp(-u - 0.7) + u + 0.7, rtol=1e-12)
    np.testing.assert_allclose(objective(u, KEY, batch)[0], 1 + u, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda u: objective(u, KEY, batch)[0].sum())(u), np.zeros(4), atol=1e-12)


def test_network_with_keys_and_in_half_precision():
    process, batch = PROCESSES["vp_linear"], {"x": jnp.ones((4, 2), jnp.bfloat16)}

    def network(params, x, time, *, key):
        assert x.dtype == jnp.float32
        return (x + jax.vmap(lambda k: jax.random.normal(k, x.shape[1:]))(key)).astype(jnp.bfloat16)

    objective = jax.jit(denoising(process, parametrizations.v(), network, with_key=True))
    losses = objective(None, KEY, batch)[0]
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, objective(None, KEY, batch)[0])
    assert np.all(losses != objective(None, jax.random.key(1), batch)[0])


def test_an_example_has_the_same_loss_in_any_part_of_its_batch():
    """Times, noise, dropped conditions and the network's draws depend on the place in the whole batch alone."""
    process = PROCESSES["vp_linear"]

    def network(params, x, time, cond, *, key):
        return x + cond["a"][:, None] * jax.vmap(lambda k: jax.random.normal(k, x.shape[1:]))(key) * cond["b"][:, None]

    make = {"times": times.stratified(), "null": {"a": 7.0}, "dropout": 0.5, "with_key": True}
    objective = jax.jit(denoising(process, parametrizations.v(), network, **make))
    batch = {"x": jax.random.normal(KEY, (12, 3)), "cond": {"a": jnp.ones(12), "b": jnp.linspace(1, 2, 12)}}
    whole, details = objective(None, KEY, batch)
    for index in (jnp.array([9, 10, 11]), jnp.array([11, 0, 3]), jnp.array([5])):
        part = jax.tree.map(lambda leaf, index=index: leaf[index], batch)
        losses, found = objective(None, BatchKey(KEY, index, 12), part)
        np.testing.assert_allclose(losses, whole[index], rtol=1e-6)
        np.testing.assert_array_equal(found["t"], details["t"][index])
    with pytest.raises(ValueError, match=r"key\.index\.shape = \(1,\); allowed are \(12,\)"):
        objective(None, BatchKey(KEY, index, 12), batch)
    with pytest.raises(ValueError, match=r"key\.shape = \(12,\)"):
        objective(None, jax.random.split(KEY, 12), batch)


def test_entries_that_null_lacks_are_kept():
    cond = {"a": jnp.arange(50), "b": jnp.arange(50)}
    got = drop_condition(jax.random.split(KEY, 50), cond, {"a": -1}, 0.5)
    np.testing.assert_array_equal(got["b"], cond["b"])
    assert 5 < np.sum(np.asarray(got["a"]) == -1) < 45


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p, n: denoising(PROCESSES["flow"], parametrizations.eps(), n), ValueError, "'eps'.*Flow has no signal"),
        (lambda p, n: denoising(p, parametrizations.v(), n, null=1, dropout=1.5), ValueError, "dropout = 1.5"),
        (lambda p, n: denoising(p, parametrizations.v(), n, dropout=0.1), ValueError, "null = None.*dropout"),
        (lambda p, n: denoising(p, parametrizations.v(), n, null=1, dropout=0.1)(None, KEY, {"x": jnp.ones((2, 3))}),
         ValueError, r"batch\['cond'\] = None"),
        (lambda p, n: drop_condition(KEY, jnp.ones((3, 4)), jnp.ones(3), 0.5), ValueError, r"null\.shape = \(3,\).*\(4,\)"),
        (lambda p, n: denoising(p, parametrizations.v(), lambda _, x, t: x[:, :1])(None, KEY, {"x": jnp.ones((2, 3))}),
         ValueError, r"network's output.*\(2, 1\).*\(2, 3\)"),
        (lambda p, n: denoising(p, parametrizations.v(), n)(None, 3, {"x": jnp.ones((2, 3))}), TypeError, "key = 3"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(PROCESSES["vp_linear"], lambda p, x, t: x)
