"""The U-Net as a whole: shapes, symmetries, dropout, precision, derivatives and refused arguments."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import Fourier, UNet
from jaxdiff.networks.module import Spec

TINY = {"channels": 8, "multipliers": (1, 2), "num_blocks": 1, "attention_levels": (1,)}
RESIDUAL = {
    "resampling": "residual",
    "resample_filter": (1, 3, 3, 1),
    "resample_projection": True,
    "input_residual": True,
    "embedding": Fourier(0.3),
    "skip_scale": 0.5**0.5,
    "scale_shift": True,
    "head_channels": 4,
    "decoder_attention": "last",
}
CONFIGURATIONS = {
    "ddpm": UNet(**TINY),
    "symmetric": UNet(**TINY, downsample_padding="symmetric"),
    "residual": UNet(**TINY, **RESIDUAL),
}
LABEL = {"label": Spec("class", classes=2)}
X, TIME = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 6, 3)), jnp.float32), jnp.array([3.0, 40.0])


def signal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def assert_responds(found, before):
    """The network takes part of its input into account: the outputs differ by 0.1% of the largest.

    Rounding in float32, 6e-8 per operation, makes a thousandth of that.
    """
    assert jnp.abs(found - before).max() > 1e-3 * jnp.abs(before).max()


def assert_same(found, expected):
    """The same sums in another order, in float32: some 50 layers of up to 400 terms, whose roundings are independent.

    The error is about 6e-8 (400 * 50)^(1/2) = 8e-6 of the largest output, and the tolerance is twice that.
    """
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * float(jnp.abs(expected).max()))


@pytest.fixture(scope="module")
def unconditional(random_variables):
    """Network, variables and compiled `apply` of every configuration, shared by the tests on `X`."""
    return {name: (net, random_variables(net, X, TIME), jax.jit(net.apply)) for name, net in CONFIGURATIONS.items()}


@pytest.mark.parametrize("space", [(11,), (28, 20), (1, 7), (7, 5, 2)])
@pytest.mark.parametrize("name", ["ddpm", "residual", "efficient", "skips"])
def test_any_size_in_one_to_three_dimensions_is_kept(name, space):
    efficient = UNet(**TINY | {"num_blocks": (1, 2, 1, 1)}, resample_first=True, concat_scale=0.5**0.5)
    skips = CONFIGURATIONS["residual"].clone(input_residual=False, input_skip=True, output_skip=True)
    net = (CONFIGURATIONS | {"efficient": efficient, "skips": skips})[name].clone(
        multipliers=(1, 1, 2, 2), attention_levels=(2,), out_channels=6
    )
    x = jnp.zeros((2, *space, 3))
    assert jax.eval_shape(net.init_with_output, jax.random.key(0), x, TIME)[0].shape == (2, *space, 6)


@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_the_output_of_a_fresh_network_is_zero(unconditional, name):
    """The last convolution starts at zero, and every other parameter may have any value."""
    net, variables, apply = unconditional[name]
    last = jax.jit(lambda key: net.init(key, X, TIME)["params"]["conv_out"])(jax.random.key(0))
    out = apply({"params": {**variables["params"], "conv_out": last}}, X, TIME)
    np.testing.assert_array_equal(out, 0.0)


def test_initial_parameters_are_finite_and_float32():
    """This network has every kind of layer."""
    net = CONFIGURATIONS["ddpm"].clone(num_blocks=0, multipliers=(1,), attention_levels=(0,)).given(LABEL)
    variables = jax.jit(net.init)(jax.random.key(0), X, TIME, jnp.zeros(2, int))
    assert all(leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_an_example_depends_on_its_own_input_and_time_alone(unconditional, name):
    _, variables, apply = unconditional[name]
    before = apply(variables, X, TIME)
    for after in (apply(variables, X.at[1].add(1.0), TIME), apply(variables, X, TIME.at[1].add(1.0))):
        np.testing.assert_array_equal(before[0], after[0])
        assert_responds(after[1], before[1])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_swapping_the_axes_of_input_and_kernels_swaps_those_of_the_output(unconditional, name):
    _, variables, apply = unconditional[name]
    swapped = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1) if leaf.ndim == 4 else leaf, variables)
    assert_same(apply(swapped, X.swapaxes(1, 2), TIME).swapaxes(1, 2), apply(variables, X, TIME))


def test_mirroring_input_and_kernels_mirrors_the_output(random_variables):
    # True of even sizes and symmetric filters. A strided convolution with one pixel of padding has no such symmetry.
    net = CONFIGURATIONS["residual"].clone(num_blocks=0)
    x = signal(1, 8, 3)
    variables = random_variables(net, x, TIME[:1])
    mirrored = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim == 3 else leaf, variables)
    apply = jax.jit(net.apply)
    assert_same(apply(mirrored, x[:, ::-1], TIME[:1])[:, ::-1], apply(variables, x, TIME[:1]))


@pytest.mark.parametrize("name", ["symmetric", "residual"])
def test_a_signal_is_an_image_of_width_one(random_variables, name):
    net = CONFIGURATIONS[name].clone(num_blocks=0)
    x = signal(2, 7, 3)
    variables = random_variables(net, x, TIME)

    def widen(leaf):
        return jnp.stack([0 * leaf, leaf, 0 * leaf], axis=1) if leaf.ndim == 3 else leaf

    image = jax.jit(net.apply)(jax.tree.map(widen, variables), x[:, :, None], TIME)
    assert_same(image[:, :, 0], jax.jit(net.apply)(variables, x, TIME))


def test_dropout_acts_where_there_is_a_key_and_parts_of_a_batch_drop_what_the_whole_drops(random_variables):
    x, time = signal(4, 6, 1), jnp.array([1.0, 2.0, 3.0, 4.0])
    net, plain = UNet(**TINY, dropout=0.5), UNet(**TINY)
    variables = random_variables(net, x, time)
    programs = [str(jax.make_jaxpr(net.apply)(variables, x, time)) for net in (net, plain)]
    assert programs[0] == programs[1]

    apply, key = jax.jit(net.apply), jax.random.key(3)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4))
    whole = apply(variables, x, time, key=key)
    parts = [apply(variables, x[i : i + 2], time[i : i + 2], key=keys[i : i + 2]) for i in (0, 2)]
    assert_same(jnp.concatenate(parts), whole)
    assert_responds(apply(variables, x[:2], time[:2], key=keys[2:]), parts[0])


@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_bfloat16_changes_only_the_computation(unconditional, name):
    net, variables, apply = unconditional[name]
    half = net.clone(dtype="bfloat16")
    shapes = jax.eval_shape(half.init, jax.random.key(0), X, TIME)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    lowered = jax.jit(half.apply).lower(variables, X, TIME)
    assert "bf16" in lowered.as_text()
    out, reference = lowered.compile()(variables, X, TIME), apply(variables, X, TIME)
    assert out.dtype == jnp.float32
    # bfloat16 rounds by 2^-9 = 0.002; some hundred independent roundings make ten times that. float32 leaves below 1e-6.
    assert 1e-6 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 0.05
    assert jax.eval_shape(net.apply, variables, X.astype(jnp.bfloat16), TIME).dtype == jnp.float32


@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_the_forward_derivative_is_the_finite_difference(random_variables, name):
    net = CONFIGURATIONS[name].given(LABEL)
    classes = jnp.array([0, 2])
    with jax.enable_x64(True):
        generator = np.random.default_rng(4)
        x, time = generator.standard_normal((2, 5, 1)), np.array([0.3, 1.7])
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), random_variables(net, x, time, classes))
        point = (variables, x, time)
        direction = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape), point)

        def f(step):
            moved = jax.tree.map(lambda p, d: p + step * d, point, direction)
            return net.apply(*moved, classes)

        value_and_slope = jax.jit(lambda step: jax.jvp(f, (step,), (jnp.ones_like(step),)))
        value, slope = value_and_slope(0.0)
        assert value.dtype == jnp.float64
        h = 1e-4
        ahead, behind = ([value_and_slope(sign * n * h)[0] for n in (1, 2)] for sign in (1, -1))
        # Fourth-order central difference: an error of order h^4 = 1e-16, and of rounding 1e-16/h = 1e-12, times large
        # derivatives.
        difference = (8 * (ahead[0] - behind[0]) - (ahead[1] - behind[1])) / (12 * h)
        np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6 * np.abs(slope).max())


def test_apply_of_equal_networks_is_equal_and_compiles_once(random_variables):
    first, second, other = (UNet(**TINY | {"num_blocks": 0}, norm_eps=eps) for eps in (1e-5, 1e-5, 1e-6))
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    assert first.apply != other.apply

    x = signal(2, 6, 1)
    variables = random_variables(first, x, TIME)
    call = jax.jit(chex.assert_max_traces(lambda apply, variables: apply(variables, x, TIME), n=1), static_argnums=0)
    np.testing.assert_array_equal(call(first.apply, variables), call(second.apply, variables))


T = jnp.zeros(2)


@pytest.mark.parametrize(
    ("fields", "x", "time", "words"),
    [
        ({}, jnp.zeros((2, 6)), T, "x.shape = (2, 6); allowed are [batch, *space, channels]"),
        ({}, jnp.zeros((2, 1, 1, 1, 1, 1)), T, "x.shape = "),
        ({}, X, jnp.zeros(()), "time.shape = (); allowed are (2,), one time per example, and (2, 2)"),
        ({}, X, jnp.zeros((2, 1)), "time.shape = (2, 1)"),
        ({}, X, jnp.zeros(3), "time.shape = (3,)"),
        ({"attention_levels": (2,)}, X, T, "attention_levels = (2,); allowed are tuples of the levels [0, 1]"),
        ({"multipliers": (), "attention_levels": ()}, X, T, "multipliers = ()"),
        ({"head_channels": 5}, X, T, "head_channels = 5"),
        ({"norm_groups": 3}, X, T, "norm_groups = 3"),
        ({"resampling": "pool"}, X, T, "resampling = 'pool'; allowed are 'conv', 'residual'"),
        ({"decoder_attention": "none"}, X, T, "decoder_attention = 'none'"),
        ({"downsample_padding": "valid"}, X, T, "downsample_padding = 'valid'"),
        ({"remat": "products"}, X, T, "remat = 'products'; allowed are 'none', 'dots', 'blocks'"),
        (
            {"resample_first": True, "num_blocks": (1, 0)},
            X,
            T,
            "num_blocks = (1, 0); allowed are integers of at least 1",
        ),
        ({"num_blocks": (1, 1, 1)}, X, T, "num_blocks = (1, 1, 1); allowed are tuples of 2 integers, one per level"),
        ({"input_residual": True}, X, T, "input_residual = True; allowed are False with resampling = 'conv'"),
        ({"resampling": "residual", "resample_filter": (1, 2, 1)}, X, T, "taps = (1, 2, 1)"),
        ({"channels": 7}, X, T, "features = 7"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(fields, x, time, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        jax.eval_shape(UNet(**TINY | fields).init, jax.random.key(0), x, time)


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match=r"x\.dtype = uint8; allowed are floating-point types"):
        jax.eval_shape(UNet(**TINY).init, jax.random.key(0), X.astype(jnp.uint8), T)
