"""The network for vectors, which has the interface of the U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import MLP, Fourier
from jaxdiff.networks.module import Spec

X = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)), jnp.float32)
TIME = jnp.array([0.1, 0.5, 0.9])


def test_a_fresh_network_is_zero():
    out, _ = jax.jit(MLP(width=16).init_with_output)(jax.random.key(0), X, TIME)
    np.testing.assert_array_equal(out, jnp.zeros((3, 2)))
    assert out.dtype == jnp.float32
    wider = MLP(width=16, out_features=5)
    assert jax.eval_shape(wider.init_with_output, jax.random.key(0), X, TIME)[0].shape == (3, 5)


def test_the_network_is_the_formula_of_its_docstring(random_variables):
    specs = {"label": Spec("class", classes=1), "augmentation": Spec("vector", (2,))}
    net = MLP(width=8, num_blocks=2, embedding=Fourier(1.0)).given(specs)
    augmentation = np.array([[0.0, 0.0], [1.0, 0.0], [0.3, -0.7]])
    classes = jnp.array([0, 1, 0])
    cond = {"label": classes, "augmentation": jnp.asarray(augmentation, jnp.float32)}
    variables = random_variables(net, X, TIME, cond)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def silu(a):
        return a / (1 + np.exp(-a))

    def dense(q, a):
        return a @ q["kernel"] + q.get("bias", 0)

    def norm(q, a):
        return (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-6) * q["scale"] + q["bias"]

    e = np.asarray(Fourier(1.0)(TIME, 8)) + dense(p["conditioning"]["augmentation"], augmentation)
    e = dense(p["conditioning"]["time_in"], e)
    e = dense(p["conditioning"]["time_out"], silu(e))
    e = silu(e + p["conditioning"]["label_table"]["embedding"][np.asarray(classes)])
    h = dense(p["dense_in"], np.asarray(X))
    for i in range(2):
        r = dense(p[f"block_{i}_in"], norm(p[f"block_{i}_norm"], h)) + dense(p[f"block_{i}_embedding"], e)
        h = h + dense(p[f"block_{i}_out"], silu(r))
    expected = dense(p["dense_out"], norm(p["norm_out"], h))
    np.testing.assert_allclose(net.apply(variables, X, TIME, cond), expected, atol=2e-5)


def test_dropout_needs_a_key(random_variables):
    net = MLP(width=16, num_blocks=1, dropout=0.5)
    variables = random_variables(net, X, TIME)
    without = net.apply(variables, X, TIME)
    np.testing.assert_array_equal(without, net.clone(dropout=0.0).apply(variables, X, TIME))
    one, two = (net.apply(variables, X, TIME, key=jax.random.key(i)) for i in (1, 2))
    # Dropping half of the entries changes an output of order 1 by far more than float32's rounding.
    assert jnp.abs(one - two).max() > 1e-3 < jnp.abs(one - without).max()
    with pytest.raises(ValueError, match=r"key\.shape = \(2,\)"):
        net.apply(variables, X, TIME, key=jax.random.split(jax.random.key(0), 2))


def test_bfloat16_changes_only_the_computation(random_variables):
    net, half = MLP(num_blocks=1), MLP(num_blocks=1, dtype="bfloat16")
    variables = random_variables(half, X, TIME)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    out, reference = half.apply(variables, X, TIME), net.apply(variables, X, TIME)
    assert out.dtype == jnp.float32
    # bfloat16 rounds by 2^-9 = 0.002, in some tens of operations; float32 would leave less than 1e-6.
    assert 1e-6 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 0.05


def test_an_input_that_is_not_a_batch_of_vectors_is_refused():
    with pytest.raises(ValueError, match=r"x\.shape = \(3, 2, 1\); allowed are \[batch, d\]"):
        jax.eval_shape(MLP().init, jax.random.key(0), jnp.zeros((3, 2, 1)), TIME)
