"""The network for vectors: its contract is that of the U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import MLP, Fourier

X = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)), jnp.float32)
TIME = jnp.array([0.1, 0.5, 0.9])


def test_a_fresh_network_is_zero():
    out, _ = jax.jit(MLP(width=16).init_with_output)(jax.random.key(0), X, TIME)
    np.testing.assert_array_equal(out, jnp.zeros((3, 2)))
    assert out.dtype == jnp.float32
    wider = MLP(width=16, out_features=5)
    assert jax.eval_shape(wider.init_with_output, jax.random.key(0), X, TIME)[0].shape == (3, 5)


def test_it_is_the_formula_of_its_docstring(random_variables):
    net = MLP(width=8, num_blocks=2, embedding=Fourier(1.0), num_classes=1, augmentation_features=2)
    labels = np.array([[0.0, 0.0], [1.0, 0.0], [0.3, -0.7]])
    classes = jnp.array([0, 1, 0])
    cond = {"label": classes, "augmentation": jnp.asarray(labels, jnp.float32)}
    variables = random_variables(net, X, TIME, cond)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def silu(a):
        return a / (1 + np.exp(-a))

    def dense(q, a):
        return a @ q["kernel"] + q.get("bias", 0)

    def norm(q, a):
        return (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-6) * q["scale"] + q["bias"]

    e = np.asarray(Fourier(1.0)(TIME, 8)) + dense(p["conditioning"]["augmentation"], labels)
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
    net = MLP(width=16, dropout=0.5)
    variables = random_variables(net, X, TIME)
    np.testing.assert_array_equal(net.apply(variables, X, TIME), MLP(width=16).apply(variables, X, TIME))
    one, two = (net.apply(variables, X, TIME, key=jax.random.key(i)) for i in (1, 2))
    assert jnp.abs(one - two).max() > 1e-3
    with pytest.raises(ValueError, match="key has shape"):
        net.apply(variables, X, TIME, key=jax.random.split(jax.random.key(0), 2))


def test_bfloat16_is_a_matter_of_computation_only(random_variables):
    net, half = MLP(width=64), MLP(width=64, dtype="bfloat16")
    variables = random_variables(half, X, TIME)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    out, reference = half.apply(variables, X, TIME), net.apply(variables, X, TIME)
    assert out.dtype == jnp.float32
    assert 1e-6 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 0.05


def test_apply_compares_by_value():
    assert MLP(width=16).apply == MLP(width=16).apply
    assert hash(MLP(width=16).apply) == hash(MLP(width=16).apply)
    assert MLP(width=16).apply != MLP(width=32).apply


@pytest.mark.parametrize(
    ("net", "x", "time", "cond", "words"),
    [
        (MLP(), jnp.zeros((3, 2, 1)), TIME, None, "x has shape"),
        (MLP(), X, jnp.zeros(()), None, "time has shape"),
        (MLP(), X, TIME, jnp.zeros(3, int), "num_classes=0"),
        (MLP(num_classes=2), X, TIME, None, "num_classes=2"),
        (MLP(vector_features=2), X, TIME, {"vector": X[:, :1]}, "vector of shape"),
    ],
)
def test_what_is_wrong_is_named(net, x, time, cond, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(net.init, jax.random.key(0), x, time, cond)
