"""The E(n)-equivariant network: its symmetries, its masks, and a reading of the paper in NumPy with loops over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.reference import dense, in_float64, silu

from jaxdiff.conditions import Vector
from jaxdiff.data import from_arrays
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion
from jaxdiff.networks import EGNN
from jaxdiff.networks.module import Spec

SPECS = {"label": Spec("class", classes=2), "exists": Spec("vector", (5,))}
NET = EGNN(width=8, depth=2, sublayers=2, reach=2.0, scale=3.0, mask="exists").given(SPECS)
TIME = jnp.array([0.2, 0.8, 0.5])
COND = {
    "label": jnp.array([0, 2, 1]),
    "exists": jnp.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], jnp.float32),  # the last: all exist
}
RNG = np.random.default_rng(1)
X = {
    "position": jnp.asarray(RNG.standard_normal((3, 5, 3)), jnp.float32),
    "element": jnp.asarray(RNG.standard_normal((3, 5, 4)), jnp.float32),
    "charge": jnp.asarray(RNG.standard_normal((3, 5)), jnp.float32),
}
SEEN = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)


@pytest.fixture(scope="module")
def variables(random_variables):
    return random_variables(NET, X, TIME, COND)


@pytest.fixture(scope="module")
def evaluate(variables):
    compiled = jax.jit(NET.apply)
    return lambda x, cond=COND, variables=variables: compiled(variables, x, TIME, cond)


def close(found, expected):
    for name, leaf in expected.items():
        assert np.abs(leaf).max() > 0.1
        np.testing.assert_allclose(found[name], leaf, rtol=0, atol=1e-5 * np.abs(leaf).max())


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def message(p, h_i, h_j, distances):
    both = dense(p["receiver"], h_i) + dense(p["sender"], h_j) + dense(p["distances"], distances)
    return silu(dense(p["out"], silu(both)))


def layer(p, h, x, start):
    n = range(len(x))
    distances = [[np.array([np.sum((x[i] - x[j]) ** 2), np.sum((start[i] - start[j]) ** 2)]) for j in n] for i in n]
    for k in range(NET.sublayers):
        new = []
        for i in n:
            ms = [message(p[f"message_{k}"], h[i], h[j], distances[i][j]) for j in n if j != i]
            told = sum(sigmoid(dense(p[f"gate_{k}"], m)) * m for m in ms) / NET.scale
            hidden = silu(dense(p[f"update_{k}_in"], np.concatenate([h[i], told])))
            new.append(h[i] + dense(p[f"update_{k}_out"], hidden))
        h = new
    moved = []
    for i in n:
        step = np.zeros(3)
        for j in n:
            if j != i:
                factor = NET.reach * np.tanh(dense(p["move"], message(p["move_message"], h[i], h[j], distances[i][j])))
                step += (x[i] - x[j]) / (np.linalg.norm(x[i] - x[j]) + 1) * factor
        moved.append(x[i] + step / NET.scale)
    return h, moved


def network(p, position, features, t, label):
    """One set of points, all of which exist."""
    phase = t / 10_000 ** (np.arange(4) / 3)
    e = dense(p["conditioning"]["time_in"], np.concatenate([np.sin(phase), np.cos(phase)]))
    e = silu(dense(p["conditioning"]["time_out"], silu(e)) + p["conditioning"]["label_table"]["embedding"][label])
    h, x = list(dense(p["dense_in"], features) + e), list(position)
    for i in range(NET.depth):
        h, x = layer(jax.tree.map(lambda leaf, i=i: leaf[i], p["layers"]), h, x, position)
    step = np.array(x) - position
    return step - step.mean(axis=0), dense(p["dense_out"], np.array(h))


def test_the_network_is_its_formula_on_the_points_that_exist(variables, evaluate):
    params = in_float64(variables)
    found = evaluate(X)
    for b, seen in enumerate(SEEN):
        position, charge, element = (np.asarray(X[n], np.float64)[b, seen] for n in ("position", "charge", "element"))
        features = np.concatenate([charge[:, None], element], axis=1)
        label = int(COND["label"][b])
        step, out = network(params, position, features, float(TIME[b]), label)
        expected = {"position": step, "charge": out[:, 0], "element": out[:, 1:]}
        close({name: leaf[b][seen] for name, leaf in found.items()}, expected)


def test_the_output_turns_with_its_points(evaluate):
    """A rotation, a reflection and a translation of each set."""
    expected = evaluate(X)
    for seed in range(4):
        turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
        turn = turn * (-1) ** seed / np.sign(np.linalg.det(turn))  # proper and improper in turn
        found = evaluate(X | {"position": jnp.asarray(np.asarray(X["position"]) @ turn + 3, jnp.float32)})
        close(found, expected | {"position": np.asarray(expected["position"]) @ turn})


def test_the_output_is_permuted_with_its_points(evaluate):
    order = np.array([3, 0, 4, 1, 2])
    found = evaluate({n: leaf[:, order] for n, leaf in X.items()}, COND | {"exists": COND["exists"][:, order]})
    close(found, {name: leaf[:, order] for name, leaf in evaluate(X).items()})


def test_points_that_do_not_exist_change_nothing_and_stay_where_they_are(evaluate):
    expected = evaluate(X)
    for fill in (7.0, np.nan):
        hidden = {n: jnp.where(SEEN if leaf.ndim == 2 else SEEN[..., None], leaf, fill) for n, leaf in X.items()}
        found = evaluate(hidden)
        for name, leaf in expected.items():
            np.testing.assert_array_equal(found[name], leaf)
            assert not np.asarray(leaf)[~SEEN].any()
    np.testing.assert_allclose(expected["position"].sum(axis=1), 0, atol=1e-6)


def test_a_fresh_network_is_zero(variables, evaluate):
    fresh = jax.jit(NET.init)(jax.random.key(0), X, TIME, COND)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    assert not any(leaf.any() for leaf in jax.tree.leaves(evaluate(X, variables=fresh)))


def test_every_parameter_can_be_trained(variables):

    @jax.jit
    @jax.grad
    def slope(variables):
        out = NET.apply(variables, X, TIME, COND)
        return sum(jnp.sum(jnp.sin(leaf + 1.0)) for leaf in jax.tree.leaves(out))

    gradient = slope(variables)["params"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-7, path


def test_points_without_features_and_settings_that_change_only_the_program(random_variables):
    plain = EGNN(width=4, depth=2)
    x = X["position"][..., :2]
    values = random_variables(plain, x, TIME)
    out = jax.jit(plain.apply)(values, x, TIME)
    assert out.shape == x.shape
    other = jax.jit(plain.clone(unroll=True, remat="blocks").apply)(values, {"position": x}, TIME)
    np.testing.assert_allclose(other["position"], out, rtol=0, atol=1e-5)


def test_a_model_is_told_which_points_exist():
    """The mask of the data is a condition, and fields of positions and features are modelled together."""
    arrays = {"atoms": np.zeros((4, 5, 3), np.float32), "atoms_mask": np.ones((4, 5), bool)}
    arrays["charge"] = np.zeros((4, 5), np.float32)
    fields = from_arrays(arrays, fields={"atoms": Field("points", (5, 3))}).fields
    network = EGNN(width=4, depth=1, position="atoms", mask="exists")
    model = Diffusion(network=network, field=("atoms", "charge"), conditions={"exists": Vector("atoms_mask")})
    bound = model.bind(fields, {"codec": {}, "conditions": {}})
    assert dict(bound.network.specs) == {"exists": Spec("vector", (5,))}
    params = jax.eval_shape(bound.init, jax.random.key(0))["model"]["params"]
    assert params["dense_out"]["kernel"].shape == (4, 1)
    asked = bound.conditioning.ask({"exists": np.arange(5) < 3})
    np.testing.assert_array_equal(asked["atoms_mask"], [[1, 1, 1, 0, 0]])


def test_wrong_arguments_are_refused():
    def shapes(net, x, cond=None):
        jax.eval_shape(net.init, jax.random.key(0), x, TIME, cond)

    with pytest.raises(ValueError, match=r"position = 'place'; allowed are entries of x: charge, element, position"):
        shapes(EGNN(position="place"), X)
    with pytest.raises(ValueError, match=r"mask = 'exists'; allowed are '' and vectors: none"):
        shapes(EGNN(mask="exists"), X)
    with pytest.raises(ValueError, match=r"x\['charge'\]\.shape = \(3, 4\); allowed are \(3, 5\) and \(3, 5, k\)"):
        shapes(EGNN(), X | {"charge": X["charge"][:, :4]})
    with pytest.raises(ValueError, match=r"shape of positions = \(3, 5\); allowed are \[batch, n, d\]"):
        shapes(EGNN(), X["charge"])
