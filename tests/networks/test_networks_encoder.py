"""The encoder: sizes, the mean over positions, conditions, dropout and precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import Encoder
from jaxdiff.networks.module import Spec

NET = Encoder(channels=8, multipliers=(1, 2), attention_levels=(1,), features=3)
TIME = jnp.array([1.0, 40.0])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("space", [(11,), (1, 7), (6, 4), (4, 3, 2)])
def test_signals_images_and_volumes_of_any_size_give_a_vector(space):
    out = jax.eval_shape(NET.init_with_output, jax.random.key(0), jnp.zeros((2, *space, 2)), TIME)[0]
    assert out.shape == (2, 3)
    assert out.dtype == jnp.float32


def test_a_constant_input_gives_the_same_vector_at_every_size(random_variables):
    """Far from its border, a convolution with zeros outside sees a constant input. The border of a signal of n positions
    reaches some 20 positions inwards, so that the result approaches a limit with an error of order 1/n.
    """
    net = NET.clone(attention_levels=())
    variables = random_variables(net, jnp.ones((2, 64, 1)), TIME)
    apply = jax.jit(net.apply)
    small, middle, large = (apply(variables, jnp.ones((2, n, 1)), TIME) for n in (256, 512, 1024))
    near, far = jnp.abs(large - middle).max(), jnp.abs(middle - small).max()
    assert near < 0.6 * far < 0.03 * jnp.abs(large).max()


def test_the_order_of_positions_matters_only_to_convolutions(random_variables):
    """Mirroring the input and the kernels of convolutions leaves the mean over positions."""
    x = normal(2, 8, 1)
    variables = random_variables(NET, x, TIME)
    mirrored = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim == 3 else leaf, variables)
    apply = jax.jit(NET.apply)
    found, expected = apply(mirrored, x[:, ::-1], TIME), apply(variables, x, TIME)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * float(jnp.abs(expected).max()))


def test_the_last_layers_are_a_norm_a_mean_and_a_dense_layer(random_variables):
    """Without blocks, the network is conv_in, the norm, the mean and the dense layer."""
    net = Encoder(channels=4, multipliers=(1,), num_blocks=0, features=2)
    x = normal(2, 5, 3)
    variables = random_variables(net, x, TIME)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (0, 0)))
    h = np.stack([np.einsum("nai,aio->no", padded[:, i : i + 3], p["conv_in"]["kernel"]) for i in range(5)], axis=1)
    h = h + p["conv_in"]["bias"]
    centred = h - h.mean((1, 2), keepdims=True)
    h = (
        centred / np.sqrt((centred**2).mean((1, 2), keepdims=True) + 1e-6) * p["norm_out"]["scale"]
        + p["norm_out"]["bias"]
    )
    expected = (h / (1 + np.exp(-h))).mean(1) @ p["dense_out"]["kernel"] + p["dense_out"]["bias"]
    np.testing.assert_allclose(net.apply(variables, x, TIME), expected, atol=2e-5)


def test_an_example_depends_on_its_own_time_and_conditions(random_variables):
    net = NET.given({"label": Spec("class", classes=2), "low": Spec("planes", (6, 1))})
    x, cond = normal(2, 6, 1), {"label": jnp.array([0, 1]), "low": normal(2, 6, 1, seed=1)}
    variables, apply = random_variables(net, x, TIME, cond), jax.jit(net.apply)
    before = apply(variables, x, TIME, cond)
    for time, changed in (
        (TIME.at[1].add(1.0), cond),
        (TIME, cond | {"label": jnp.array([0, 2])}),
        (TIME, cond | {"low": cond["low"].at[1].add(1.0)}),
    ):
        after = apply(variables, x, time, changed)
        np.testing.assert_allclose(after[0], before[0], atol=1e-5)
        assert jnp.abs(after[1] - before[1]).max() > 1e-3


def test_dropout_follows_the_keys_of_examples(random_variables):
    net, x = NET.clone(dropout=0.5), normal(2, 6, 1)
    variables, keys = random_variables(net, x, TIME), jax.random.split(jax.random.key(1), 2)
    apply = jax.jit(net.apply)
    np.testing.assert_array_equal(apply(variables, x, TIME), jax.jit(NET.apply)(variables, x, TIME))
    dropped, swapped = (
        apply(variables, x[order], TIME[order], key=keys[order]) for order in np.array([[0, 1], [1, 0]])
    )
    np.testing.assert_allclose(swapped[::-1], dropped, atol=1e-5)
    assert jnp.abs(dropped - apply(variables, x, TIME)).max() > 1e-3


def test_bfloat16_changes_only_the_computation(random_variables):
    x = normal(2, 6, 1)
    variables = random_variables(NET, x, TIME)
    out, reference = (jax.jit(net.apply)(variables, x, TIME) for net in (NET.clone(dtype="bfloat16"), NET))
    assert out.dtype == jnp.float32
    # bfloat16 rounds by 2^-9 = 0.002, in some tens of operations; float32 would leave less than 1e-6.
    assert 1e-6 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 0.05


def test_a_length_is_needed():
    with pytest.raises(ValueError, match="features = None; allowed are integers of at least 1"):
        jax.eval_shape(Encoder().init, jax.random.key(0), jnp.zeros((1, 4, 1)), jnp.zeros(1))
