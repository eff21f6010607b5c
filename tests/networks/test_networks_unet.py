"""The U-Net as a whole: shapes, symmetries, conditions, precision, derivatives, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import Fourier, UNet
from jaxdiff.networks.conditioning import split_cond

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
TIME = jnp.array([3.0, 40.0])


def signal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.fixture(scope="module")
def unconditional(random_variables):
    """Network, variables and compiled `apply` of every configuration, shared by the tests on `[2, 7, 6, 3]`."""
    x = signal(2, 7, 6, 3)
    return {name: (net, random_variables(net, x, TIME), jax.jit(net.apply)) for name, net in CONFIGURATIONS.items()}


@pytest.mark.parametrize("space", [(11,), (28, 20), (1, 7), (7, 5, 2)])
@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_any_size_in_one_to_three_dimensions_comes_out_with_its_size(name, space):
    net = CONFIGURATIONS[name].clone(multipliers=(1, 1, 2, 2), attention_levels=(2,), out_channels=6)
    x = jnp.zeros((2, *space, 3))
    assert jax.eval_shape(net.init_with_output, jax.random.key(0), x, TIME)[0].shape == (2, *space, 6)


@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_a_fresh_network_is_zero_with_finite_features(name):
    net = CONFIGURATIONS[name]
    out, variables = jax.jit(net.init_with_output)(jax.random.key(0), signal(2, 7, 6, 3), TIME)
    np.testing.assert_array_equal(out, 0.0)
    assert all(leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_examples_do_not_see_each_other(unconditional, name):
    _, variables, apply = unconditional[name]
    x = signal(2, 7, 6, 3)
    before, after = apply(variables, x, TIME), apply(variables, x.at[1].add(1.0), TIME.at[1].add(5.0))
    np.testing.assert_array_equal(before[0], after[0])
    assert jnp.abs(before[1] - after[1]).max() > 1e-2


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_label_matters(unconditional, name):
    _, variables, apply = unconditional[name]
    x = signal(2, 7, 6, 3)
    assert jnp.abs(apply(variables, x, TIME) - apply(variables, x, TIME + 1)).max() > 1e-3


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_swapping_the_axes_of_input_and_kernels_swaps_those_of_the_output(unconditional, name):
    _, variables, apply = unconditional[name]
    x = signal(2, 7, 6, 3)
    swapped = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1) if leaf.ndim == 4 else leaf, variables)
    out = apply(swapped, x.swapaxes(1, 2), TIME)
    np.testing.assert_allclose(out.swapaxes(1, 2), apply(variables, x, TIME), atol=2e-4)


def test_mirroring_input_and_kernels_mirrors_the_output(random_variables):
    # True of even sizes and symmetric filters. A strided convolution with one pixel of padding has no such symmetry.
    net = CONFIGURATIONS["residual"]
    x = signal(1, 8, 3)
    variables = random_variables(net, x, TIME[:1])
    mirrored = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim == 3 else leaf, variables)
    apply = jax.jit(net.apply)
    out = apply(mirrored, x[:, ::-1], TIME[:1])[:, ::-1]
    np.testing.assert_allclose(out, apply(variables, x, TIME[:1]), atol=2e-4)


@pytest.mark.parametrize("name", ["symmetric", "residual"])
def test_a_signal_is_an_image_of_width_one(random_variables, name):
    net = CONFIGURATIONS[name]
    x = signal(2, 7, 3)
    variables = random_variables(net, x, TIME)

    def widen(leaf):
        return jnp.stack([0 * leaf, leaf, 0 * leaf], axis=1) if leaf.ndim == 3 else leaf

    image = jax.jit(net.apply)(jax.tree.map(widen, variables), x[:, :, None], TIME)
    np.testing.assert_allclose(image[:, :, 0], jax.jit(net.apply)(variables, x, TIME), atol=2e-4)


def test_class_and_vector_conditions(random_variables):
    net = UNet(**TINY, num_classes=3, vector_features=2)
    x, vector = jnp.tile(signal(1, 6, 1), (2, 1, 1)), jnp.zeros((2, 2))
    time = jnp.ones(2)
    variables = random_variables(net, x, time, {"label": jnp.zeros(2, int), "vector": vector})
    assert variables["params"]["conditioning"]["label_table"]["embedding"].shape == (4, 32)

    @jax.jit
    def out(classes, vector):
        return net.apply(variables, x, time, {"label": classes, "vector": vector})

    def apart(pair):
        return jnp.abs(pair[0] - pair[1]).max()

    assert apart(out(jnp.array([1, 1]), vector)) < 1e-6
    assert apart(out(jnp.array([0, 1]), vector)) > 1e-3
    assert apart(out(jnp.array([2, 3]), vector)) > 1e-3  # 3 is the null label
    assert apart(out(jnp.array([1, 1]), vector.at[1, 0].set(1.0))) > 1e-3
    beyond = out(jnp.array([1, 4]), vector)
    assert jnp.isfinite(beyond[0]).all()
    assert jnp.isnan(beyond[1]).all()


def test_class_labels_may_come_as_a_bare_array():
    classes = np.array([0, 3])
    for cond in (classes, {"label": classes}):
        label, vector, augmentation = split_cond(cond, 2, 3, 0)
        np.testing.assert_array_equal(label, classes)
        assert vector is augmentation is None


def test_augmentation_labels_left_out_are_zero_and_given_ones_matter(random_variables):
    net = UNet(**TINY, num_classes=1, augmentation_features=9)
    x, classes = signal(2, 6, 1), jnp.array([0, 1])
    variables = random_variables(net, x, TIME, classes)
    assert set(variables["params"]["conditioning"]["augmentation"]) == {"kernel"}
    apply = jax.jit(net.apply)
    without = apply(variables, x, TIME, classes)
    labels = jnp.zeros((2, 9))
    zero = apply(variables, x, TIME, {"label": classes, "augmentation": labels})
    np.testing.assert_allclose(zero, without, atol=1e-6)
    one = apply(variables, x, TIME, {"label": classes, "augmentation": labels.at[1, 4].set(1.0)})
    np.testing.assert_allclose(one[0], without[0], atol=1e-6)
    assert jnp.abs(one[1] - without[1]).max() > 1e-3


def test_dropout_acts_where_there_is_a_key(random_variables):
    x = signal(2, 6, 1)
    net, plain = UNet(**TINY, dropout=0.5), UNet(**TINY)
    variables = random_variables(net, x, TIME)
    apply = jax.jit(net.apply)
    np.testing.assert_array_equal(apply(variables, x, TIME), jax.jit(plain.apply)(variables, x, TIME))

    train = jax.jit(lambda key: net.apply(variables, x, TIME, key=key))
    one, two = train(jax.random.key(1)), train(jax.random.key(2))
    np.testing.assert_array_equal(one, train(jax.random.key(1)))
    assert jnp.abs(one - two).max() > 1e-3


def test_a_batch_cut_in_parts_drops_what_the_whole_drops(random_variables):
    x, time = signal(4, 6, 1), jnp.array([1.0, 2.0, 3.0, 4.0])
    net = UNet(**TINY, dropout=0.5)
    variables = random_variables(net, x, time)
    apply = jax.jit(net.apply)
    key = jax.random.key(3)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4))
    whole = apply(variables, x, time, key=key)
    parts = [apply(variables, x[i : i + 2], time[i : i + 2], key=keys[i : i + 2]) for i in (0, 2)]
    np.testing.assert_allclose(jnp.concatenate(parts), whole, atol=1e-5)
    swapped = apply(variables, x, time, key=keys[::-1])
    assert jnp.abs(swapped - whole).max() > 1e-2


@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_bfloat16_is_a_matter_of_computation_only(unconditional, name):
    net, variables, apply = unconditional[name]
    half = net.clone(dtype="bfloat16")
    x = signal(2, 7, 6, 3)
    shapes = jax.eval_shape(half.init, jax.random.key(0), x, TIME)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    lowered = jax.jit(half.apply).lower(variables, x, TIME)
    assert "bf16" in lowered.as_text()
    out, reference = lowered.compile()(variables, x, TIME), apply(variables, x, TIME)
    assert out.dtype == jnp.float32
    error = jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference)
    assert 1e-6 < error < 0.05
    assert jax.eval_shape(net.apply, variables, x.astype(jnp.bfloat16), TIME).dtype == jnp.float32


@pytest.mark.parametrize("name", ["ddpm", "residual"])
def test_forward_derivative_is_the_finite_difference(random_variables, name):
    net = CONFIGURATIONS[name].clone(num_classes=2)
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

        value, slope = jax.jit(lambda: jax.jvp(f, (0.0,), (1.0,)))()
        assert value.dtype == jnp.float64
        f = jax.jit(f)
        h = 1e-4
        # Fourth-order central difference: error of order h^4.
        difference = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
        np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6 * np.abs(slope).max())


def test_apply_of_equal_networks_is_equal_and_compiles_once(random_variables):
    first, second, other = (UNet(**TINY, norm_eps=eps) for eps in (1e-5, 1e-5, 1e-6))
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    assert first.apply != other.apply

    x = signal(2, 6, 1)
    variables = random_variables(first, x, TIME)
    traced = []

    def call(apply, variables):
        traced.append(apply)
        return apply(variables, x, TIME)

    call = jax.jit(call, static_argnums=0)
    np.testing.assert_array_equal(call(first.apply, variables), call(second.apply, variables))
    assert len(traced) == 1


def shapes_of(net, x, time, cond=None):
    return jax.eval_shape(net.init, jax.random.key(0), x, time, cond)


X, T = jnp.zeros((2, 6, 6, 1)), jnp.zeros(2)


@pytest.mark.parametrize(
    ("fields", "x", "time", "cond", "words"),
    [
        ({}, jnp.zeros((2, 6)), T, None, "x has shape"),
        ({}, jnp.zeros((2, 1, 1, 1, 1, 1)), T, None, "x has shape"),
        ({}, X, jnp.zeros(()), None, "time has shape"),
        ({}, X, jnp.zeros((2, 1)), None, "time has shape"),
        ({}, X, jnp.zeros(3), None, "time has shape"),
        ({}, X, T, jnp.zeros(2, int), "num_classes=0"),
        ({}, X, T, {"vector": jnp.zeros((2, 3))}, "vector_features=0"),
        ({"num_classes": 3}, X, T, None, "num_classes=3"),
        ({"num_classes": 3}, X, T, {}, "num_classes=3"),
        ({"num_classes": 3}, X, T, jnp.zeros(3, int), "class labels of shape"),
        ({"num_classes": 3}, X, T, {"labels": jnp.zeros(2, int)}, "'labels'"),
        ({"vector_features": 3}, X, T, None, "vector_features=3"),
        ({"vector_features": 3}, X, T, {"vector": jnp.zeros((2, 4))}, "vector of shape"),
        ({}, X, T, {"augmentation": jnp.zeros((2, 9))}, "augmentation_features=0"),
        ({"augmentation_features": 9}, X, T, {"augmentation": jnp.zeros((2, 8))}, "augmentation labels of shape"),
        ({"attention_levels": (2,)}, X, T, None, "attention_levels"),
        ({"multipliers": (), "attention_levels": ()}, X, T, None, "multipliers"),
        ({"head_channels": 5}, X, T, None, "head_channels=5"),
        ({"norm_groups": 3}, X, T, None, "norm_groups=3"),
        ({"resampling": "pool"}, X, T, None, "resampling='pool'"),
        ({"decoder_attention": "none"}, X, T, None, "decoder_attention='none'"),
        ({"downsample_padding": "valid"}, X, T, None, "downsample_padding='valid'"),
        ({"input_residual": True}, X, T, None, "input_residual"),
        ({"resampling": "residual", "resample_filter": (1, 2, 1)}, X, T, None, "taps"),
        ({"channels": 7}, X, T, None, "features=7"),
    ],
)
def test_what_is_wrong_is_named(fields, x, time, cond, words):
    with pytest.raises(ValueError, match=words):
        shapes_of(UNet(**TINY | fields), x, time, cond)


def test_integer_images_and_floating_classes_are_refused():
    with pytest.raises(TypeError, match="x has dtype uint8"):
        shapes_of(UNet(**TINY), X.astype(jnp.uint8), T)
    with pytest.raises(TypeError, match="class labels of dtype float32"):
        shapes_of(UNet(**TINY, num_classes=3), X, T, jnp.zeros(2))
