"""EDM2's U-Net: a reading of the paper in NumPy, magnitudes through the depth, and the projection of its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks.reference import in_float64, silu
from scipy.special import softmax

from jaxdiff.networks import EDM2, MPFourier
from jaxdiff.networks.layers.magnitudes import mp_cat, mp_silu, mp_sum
from jaxdiff.networks.module import Spec
from jaxdiff.training.state import initial_state
from jaxdiff.training.step import make_step

SPECS = {"label": Spec("class", classes=2), "size": Spec("vector", (3,))}
NET = EDM2(
    channels=4, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), head_channels=4, balance=0.4,
    attention_balance=0.2, concat_balance=0.6, condition_balance=0.3,
).given(SPECS)  # fmt: skip
RNG = np.random.default_rng(0)
X, TIME = RNG.standard_normal((2, 5, 4, 3)), np.array([-0.3, 0.4])  # the odd side is halved to 3
COND = {"label": np.array([0, 2]), "size": RNG.standard_normal((2, 3))}


def as_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, None if leaf.dtype.kind == "i" else jnp.float32), tree)


ARGUMENTS = as_float32((X, TIME, COND))


@pytest.fixture(scope="module")
def variables(random_variables):
    return random_variables(NET, *ARGUMENTS)


@pytest.fixture(scope="module")
def evaluate():
    return jax.jit(NET.apply)


# ------------------------------------------------------- the paper, for one example `[height, width, channels]`


def unit(x, axes):
    return x / (1e-4 + np.sqrt(np.mean(x**2, axis=axes, keepdims=True)))


def weights(p):
    kernel = p["kernel"]
    norm = np.sqrt(np.sum(kernel**2, axis=tuple(range(kernel.ndim - 1))))
    fan_in = kernel.size / kernel.shape[-1]
    return kernel / (norm + 1e-4 * np.sqrt(fan_in))  # equation 47, whose constant is that of a magnitude


def dense(p, x):
    return x @ weights(p)


def conv(p, x):
    w, padded = weights(p), np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((*x.shape[:2], w.shape[-1]))
    for i, j in np.ndindex(*x.shape[:2]):
        out[i, j] = np.einsum("abc,abco->o", padded[i : i + 3, j : j + 3], w)
    return out


def lerp(a, b, t):
    return ((1 - t) * a + t * b) / np.sqrt((1 - t) ** 2 + t**2)


def join(a, b, t):
    n_a, n_b = a.shape[-1], b.shape[-1]
    c = np.sqrt((n_a + n_b) / ((1 - t) ** 2 + t**2))
    return np.concatenate([c * (1 - t) / np.sqrt(n_a) * a, c * t / np.sqrt(n_b) * b], axis=-1)


def activation(x):
    return silu(x) / 0.596


def attention(p, x):
    flat = x.reshape(-1, x.shape[-1])
    out, query, key, value = np.zeros_like(flat), *np.split(dense(p["qkv"], flat), 3, axis=-1)
    for start in range(0, flat.shape[-1], NET.head_channels):
        head = slice(start, start + NET.head_channels)
        q, k, v = (unit(part[:, head], -1) for part in (query, key, value))
        out[:, head] = softmax(q @ k.T / np.sqrt(NET.head_channels), axis=-1) @ v
    return lerp(x, dense(p["out"], out).reshape(x.shape), NET.attention_balance)


def block(p, x, e, down):
    if down:
        x = unit(dense(p["skip"], x) if "skip" in p else x, -1)
    y = conv(p["conv_in"], activation(x))
    y = conv(p["conv_out"], activation(y * (1 + p["gain"] * dense(p["embedding"], e))))
    if not down and "skip" in p:
        x = dense(p["skip"], x)
    x = lerp(x, y, NET.balance)
    return attention(p["attention"], x) if "attention" in p else x


def network(p, x, t, label, size):
    generator = np.random.RandomState(0)
    frequencies, phases = generator.standard_normal(4), generator.random_sample(4)
    time = dense(p["conditioning"]["time_in"], np.sqrt(2) * np.cos(2 * np.pi * (t * frequencies + phases)))
    one_hot = np.zeros(3)
    one_hot[label] = np.sqrt(3)  # of magnitude 1
    told = dense(p["conditioning"]["label_table"], one_hot) + dense(p["conditioning"]["size"], size)
    e = activation(lerp(time, told / np.sqrt(2), NET.condition_balance))
    a = conv(p["conv_in"], np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=-1))
    b = block(p["down_0_block_0"], a, e, True)
    edged = np.concatenate([b, b[-1:]])
    c = block(p["down_1_resample"], edged.reshape(3, 2, 2, 2, -1).mean(axis=(1, 3)), e, True)
    d = block(p["down_1_block_0"], c, e, True)
    h = block(p["mid_block_1"], block(p["mid_block_0"], d, e, False), e, False)
    for i, skip in enumerate((d, c)):
        h = block(p[f"up_1_block_{i}"], join(h, skip, NET.concat_balance), e, False)
    h = block(p["up_0_resample"], h.repeat(2, axis=0).repeat(2, axis=1)[:5], e, False)
    for i, skip in enumerate((b, a)):
        h = block(p[f"up_0_block_{i}"], join(h, skip, NET.concat_balance), e, False)
    return p["gain_out"] * conv(p["conv_out"], h)


def test_the_network_is_its_formula(variables, evaluate):
    params = in_float64(variables)
    expected = [network(params, *rest) for rest in zip(X, TIME, COND["label"], COND["size"], strict=True)]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(evaluate(variables, *ARGUMENTS), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# ------------------------------------------------------------------------------------------------ magnitudes


def magnitude(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def test_operations_preserve_the_magnitude_of_normal_numbers():
    a, b = np.random.default_rng(3).standard_normal((2, 1000, 100))
    for found in (mp_silu(a), mp_sum(a, b, 0.3), mp_cat(a, b[:, :30], 0.5), MPFourier()(np.array([0.3, 5.0]), 20_000)):
        assert abs(magnitude(found) - 1) < 0.02
    shares = mp_cat(np.sqrt(np.ones((1, 8))), np.ones((1, 2)), 0.2)[0]
    # The parts add 0.8^2 and 0.2^2 to the square of a sum with equal weights.
    np.testing.assert_allclose(np.sum(shares[8:] ** 2) / np.sum(shares[:8] ** 2), (0.2 / 0.8) ** 2, rtol=1e-5)


def test_activations_keep_their_magnitude_through_the_depth(random_variables):
    """On signals, of which few positions are at an edge, and with attention in the middle alone.

    Attention averages values, which are independent in a fresh network: a block with attention can lose up to
    1 - 0.7 / sqrt(0.7^2 + 0.3^2) = 8%.
    """
    net = EDM2(channels=64, multipliers=(1, 1), num_blocks=2, attention_levels=())
    x, time = jnp.asarray(np.random.default_rng(1).standard_normal((4, 64, 15)), jnp.float32), jnp.zeros(4)
    # A fresh network but for the seed: random weights, and gains of zero.
    variables = jax.tree.map(lambda leaf: leaf if leaf.ndim else 0 * leaf, random_variables(net, x, time))

    @jax.jit
    def run(variables):
        _, state = net.apply(variables, x, time, capture_intermediates=True, mutable=["intermediates"])
        return {name: out["__call__"][0] for name, out in state["intermediates"].items() if name != "__call__"}

    found = {name: magnitude(out) for name, out in run(variables).items()}
    assert found.pop("conv_out") == 0  # whose gain starts at zero
    assert len(found) == 2 + 5 + 2 + 7  # the embedding and the first convolution; the ways down, between and up
    assert not {name: value for name, value in found.items() if abs(value - 1) > 0.2}


# ------------------------------------------------------------------------------------------- weights and training


def rms(kernel):
    return np.sqrt(np.mean(np.square(np.asarray(kernel, np.float64)), axis=tuple(range(kernel.ndim - 1))))


def kernels(params):
    return {path: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"}


@pytest.fixture(scope="module")
def training(variables, evaluate):
    """An objective that pushes every weight, with noise of the step, and a state of random gains and unit weights."""

    def objective(params, key, batch, context):
        del key, context
        out = NET.apply({"params": params}, batch["x"], batch["time"], batch["cond"])
        return jnp.square(out - batch["x"]).mean(axis=(1, 2, 3)), {}

    optimizer, rules = optax.sgd(5.0), {"slow": lambda n: 0.5 + 0 * n}
    state = initial_state(NET.project(variables["params"]), optimizer, jax.random.key(1), rules)
    batch = dict(zip(("x", "time", "cond"), ARGUMENTS, strict=True))
    return (objective, optimizer, rules), state, batch


def test_the_step_projects_the_weights_after_the_update(training):
    arguments, start, batch = training
    free, projected = (jax.jit(make_step(*arguments, **o)) for o in ({}, {"project": NET.project}))
    state, average = start, in_float64({"params": start.params})
    for _ in range(2):
        updated = in_float64({"params": free(state, batch)[0].params})
        moved = [np.abs(rms(leaf) - 1).max() for leaf in kernels(updated).values()]
        assert max(moved) > 1e-4  # the update alone leaves the norm
        state, _ = projected(state, batch)
        expected = jax.tree.map_with_path(
            lambda path, leaf: leaf / rms(leaf) if path[-1].key == "kernel" else leaf, updated
        )
        average = jax.tree.map(lambda a, p: (a + p) / 2, average, expected)
        for found, right in ((state.params, expected), (state.ema["slow"], average)):
            jax.tree.map(lambda f, r: np.testing.assert_allclose(f, r, rtol=1e-5, atol=1e-5), found, right)
        assert all(np.abs(rms(leaf) - 1).max() < 1e-6 for leaf in kernels(state.params).values())
    parts, _ = jax.jit(make_step(*arguments, accumulate=2, project=NET.project))(start, batch)
    whole, _ = projected(start, batch)
    jax.tree.map(lambda f, r: np.testing.assert_allclose(f, r, rtol=1e-5, atol=1e-5), parts.params, whole.params)


def test_every_parameter_is_trained_and_every_weight_is_orthogonal_to_its_derivative(training):
    (objective, _, _), state, batch = training
    loss = jax.jit(jax.grad(lambda params: objective(params, None, batch, None)[0].mean()))
    gradient = dict(jax.tree_util.tree_leaves_with_path(loss(state.params)))
    for path, leaf in gradient.items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-8, path
    for path, kernel in kernels(state.params).items():
        slope, axes = gradient[path], tuple(range(kernel.ndim - 1))
        along = np.sum(slope * kernel, axis=axes)
        assert np.all(np.abs(along) <= 1e-3 * np.linalg.norm(slope) * np.sqrt(kernel[..., 0].size)), path


def test_a_fresh_network_is_zero_with_unit_weights(variables, evaluate):
    fresh = jax.jit(NET.init)(jax.random.key(0), *ARGUMENTS)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    assert not evaluate(fresh, *ARGUMENTS).any()
    assert all(np.abs(rms(leaf) - 1).max() < 1e-6 for leaf in kernels(fresh).values())


def test_two_times_bfloat16_and_remat(random_variables):
    net = EDM2(channels=4, multipliers=(1,), num_blocks=1, attention_levels=(0,), head_channels=4)
    x, times = ARGUMENTS[0], jnp.array([[0.1, 0.4], [0.3, 0.2]])
    values = random_variables(net, x, times)

    @jax.jit
    def outputs(values, times):
        kinds = net, net.clone(remat="dots"), net.clone(dtype="bfloat16")
        return [kind.apply(values, x, times) for kind in kinds]

    out, stored, half = outputs(values, times)
    size = float(jnp.abs(out).max())
    np.testing.assert_allclose(stored, out, rtol=0, atol=1e-5 * size)
    assert half.dtype == jnp.float32
    assert 1e-6 * size < jnp.abs(half - out).max() < 5e-2 * size
    assert jnp.abs(outputs(values, times[:, ::-1])[0] - out).max() > 1e-3 * size
