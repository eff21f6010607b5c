"""Trees: broadcasting, types, noise and keys, compared with plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxdiff as jd
from jaxdiff import trees

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def _tree(batch=4, dtype=np.float32):
    return {"image": RNG.normal(size=(batch, 3, 2)).astype(dtype), "rest": [RNG.normal(size=(batch,)).astype(dtype)]}


def test_lincomb_with_scalars_and_with_one_number_per_example():
    one, other = _tree(), _tree()
    each = RNG.normal(size=4).astype(np.float32)
    got = trees.lincomb((2.0, each), (one, other))
    np.testing.assert_allclose(got["image"], 2 * one["image"] + each[:, None, None] * other["image"], rtol=1e-6)
    np.testing.assert_allclose(got["rest"][0], 2 * one["rest"][0] + each * other["rest"][0], rtol=1e-6)
    alone = trees.lincomb((3,), (one,))
    np.testing.assert_array_equal(alone["image"], 3 * one["image"])
    assert jax.tree.structure(got) == jax.tree.structure(one)


def test_lincomb_broadcasts_along_the_batch_even_when_shapes_are_square():
    """`[batch]` means examples, never the last axis. With 3 examples of 3 coordinates the two could be confused."""
    got = trees.lincomb((jnp.array([1.0, 2.0, 3.0]),), (jnp.ones((3, 3)),))
    np.testing.assert_array_equal(got, np.repeat([[1.0], [2.0], [3.0]], 3, axis=1))


@pytest.mark.parametrize(
    ("dtypes", "want"),
    [
        (("bfloat16",), "float32"),
        (("float16", "bfloat16"), "float32"),
        (("float32", "bfloat16"), "float32"),
        (("uint8",), "float32"),
        (("float64", "float32"), "float64"),
        (("int32", "float64"), "float64"),
    ],
)
def test_sums_are_kept_in_float32_or_wider(dtypes, want, x64):
    leaves = [jnp.ones((2, 3), dtype) for dtype in dtypes]
    assert trees.lincomb((0.5,) * len(leaves), leaves).dtype == want
    assert trees.wide(*leaves) == want
    assert trees.normal_like(KEY, leaves[0]).dtype == trees.wide(leaves[0])
    assert trees.mean_square(leaves[0]).dtype == trees.wide(leaves[0])
    # A float64 coefficient does not widen float32 data.
    assert trees.lincomb((np.float64(0.5),), (jnp.ones((2, 3), jnp.float32),)).dtype == jnp.float32


def test_half_precision_is_widened_before_it_is_added():
    """1 + 2^-10 is 1 in bfloat16."""
    got = trees.lincomb((1.0, 2.0**-10), (jnp.ones((1, 1), jnp.bfloat16),) * 2)
    assert got[0, 0] == np.float32(1 + 2**-10)
    assert trees.mean_square(jnp.full((1, 4097), 1.0, jnp.bfloat16))[0] == 1.0


def test_lincomb_refuses_other_structures_and_lengths():
    with pytest.raises(ValueError, match="structure"):
        trees.lincomb((1.0, 1.0), (_tree(), {"image": jnp.ones((4, 3, 2))}))
    with pytest.raises(ValueError, match="zip"):
        trees.lincomb((1.0,), (_tree(), _tree()))


def test_mean_square_and_inner_run_over_all_leaves():
    made = _tree(batch=5), _tree(batch=5)
    one, other = (jax.tree.map(jnp.asarray, tree) for tree in made)
    flat, also = (np.concatenate([tree["image"].reshape(5, -1), tree["rest"][0][:, None]], axis=1) for tree in made)
    np.testing.assert_allclose(trees.mean_square(one), np.mean(flat**2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(trees.inner(one, other), np.sum(flat * also, axis=1), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="zip"):
        trees.inner(one, one["image"])


def test_traced_finds_a_tracer_in_any_leaf():
    assert not trees.traced((1.0, None, {"a": np.ones(2), "b": jnp.ones(2)}))
    seen = []
    jax.eval_shape(lambda x: seen.extend([trees.traced(x), trees.traced([1.0, {"a": x}]), trees.traced(1.0)]), 1.0)
    assert seen == [True, True, False]


def test_noise_is_standard_normal_and_independent_between_leaves_and_examples():
    tree = {"a": jnp.zeros((4, 5000)), "b": jnp.zeros((4, 50, 100)), "c": jnp.zeros((4, 5000))}
    for key in (KEY, jax.random.split(KEY, 4)):
        noise = trees.normal_like(key, tree)
        assert jax.tree.map(jnp.shape, noise) == jax.tree.map(jnp.shape, tree)
        rows = np.concatenate([np.asarray(leaf).reshape(4, -1) for leaf in jax.tree.leaves(noise)])
        for row in rows:
            assert stats.kstest(row, stats.norm.cdf).pvalue > 1e-3
        correlation = np.corrcoef(rows) - np.eye(12)
        assert np.max(np.abs(correlation)) < 4.5 / np.sqrt(5000)  # 66 pairs at 4.5 standard deviations: p < 5e-4
        for sign, leaf in zip(jax.tree.leaves(trees.rademacher_like(key, tree)), jax.tree.leaves(noise), strict=True):
            np.testing.assert_array_equal(sign, np.where(np.asarray(leaf) < 0, -1.0, 1.0))


def test_noise_of_an_example_depends_on_its_key_alone():
    """Arrays and their shapes give the same noise."""
    keys, chosen = jax.random.split(KEY, 6), jnp.array([4, 1])
    tree = {"a": jnp.zeros((6, 3)), "b": jnp.zeros((6, 2, 2))}
    together = trees.normal_like(keys, tree)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), tree)
    apart = trees.normal_like(keys[chosen], shapes)
    for k in tree:
        np.testing.assert_array_equal(apart[k], together[k][chosen])


@pytest.mark.parametrize("generator", ["rbg", "unsafe_rbg"])
def test_noise_of_an_example_depends_on_its_key_alone_with_other_generators(generator):
    """`vmap` over such keys draws the numbers of all examples from the first key."""
    key = jax.random.key(0, impl=generator)
    keys, x = jax.random.split(key, 6), jnp.zeros((6, 3))
    drawn = set()
    for made in (
        lambda piece: trees.as_key(keys[piece]),
        lambda piece: trees.example_keys(key, 6)[piece],
        lambda piece: trees.BatchKey(key, jnp.arange(6)[piece], 6).each(1),
    ):
        together = trees.normal_like(made(slice(0, 6)), x)
        np.testing.assert_array_equal(trees.normal_like(made(slice(2, 4)), x[2:4]), together[2:4])
        drawn |= set(np.asarray(together).ravel().tolist())
    assert len(drawn) == 3 * 6 * 3


def test_old_style_keys_are_the_same_keys():
    old = jax.random.PRNGKey(7)
    many = jnp.stack([jax.random.PRNGKey(i) for i in range(3)])
    x = jnp.zeros((3, 2))
    np.testing.assert_array_equal(trees.normal_like(trees.as_key(old), x), trees.normal_like(jax.random.key(7), x))
    typed = jax.vmap(jax.random.key)(jnp.arange(3))
    for given in (many, np.asarray(many)):
        assert trees.as_key(given).shape == (3,)
        np.testing.assert_array_equal(trees.normal_like(trees.as_key(given), x), trees.normal_like(typed, x))


def test_split_and_fold_in_of_one_key_and_of_many():
    keys = jax.random.split(KEY, 3)
    parts = trees.split(keys, 2)
    assert len(parts) == 2
    assert parts[0].shape == (3,)
    for i in range(3):
        for number, part in enumerate(trees.split(keys[i], 2)):
            np.testing.assert_array_equal(jax.random.key_data(part), jax.random.key_data(parts[number][i]))
    data = {jax.random.key_data(k).tobytes() for part in parts for k in part} | {
        jax.random.key_data(k).tobytes() for k in keys
    }
    assert len(data) == 9  # all differ, from each other and from the keys that were split


def test_batch_size_and_likeness():
    assert trees.batch_size(_tree(batch=5)) == 5
    assert trees.batch_size(jax.ShapeDtypeStruct((7, 2), jnp.float32)) == 7
    trees.check_alike("y", {"a": jnp.ones((2, 3))}, {"a": np.zeros((2, 3))})
    assert trees.same_structure({"a": 1, "b": (2, 3)}, {"a": 4, "b": (5, 6)})
    assert not trees.same_structure({"a": 1}, [1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trees.batch_size({"a": jnp.ones((2, 3)), "b": jnp.ones(3)}), ValueError, r"\(2, 3\), \(3,\)"),
        (lambda: trees.batch_size(jnp.ones(())), ValueError, r"shapes of x = \[\(\)\]"),
        (lambda: trees.batch_size({}), ValueError, r"shapes of x = \[\]"),
        (lambda: trees.as_key(0), TypeError, "key = 0; allowed are random keys"),
        (lambda: trees.as_key(jnp.ones(2)), TypeError, "allowed are random keys"),
        (lambda: trees.as_key(jax.random.split(KEY, (2, 3))), ValueError, r"key\.shape = \(2, 3\)"),
        (lambda: trees.normal_like(jax.random.split(KEY, 3), jnp.ones((2, 5))), ValueError, r"\(3,\).*\(2,\)"),
        (
            lambda: trees.check_alike("y", jnp.ones((2, 3)), jnp.ones((2, 4))),
            ValueError,
            r"shape of y = \(2, 3\); allowed are \(2, 4\)",
        ),
        (lambda: trees.check_alike("y", [jnp.ones(2)], jnp.ones(2)), ValueError, "shape of y = "),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_structures_tell_classes_apart():
    """Processes of two classes with equally many numbers have different structures, so they never share a program."""
    process = jd.processes.vp_linear()
    for other in (jd.processes.sub_vp(), jd.processes.ve(), jd.processes.flow(), jd.processes.edm()):
        assert jax.tree.structure(process) != jax.tree.structure(other)
        assert not jd.processes.same_process(process, other)
    f = jax.jit(lambda process: process.alpha(jnp.asarray(0.5)))
    for made in (jd.processes.flow, jd.processes.edm, jd.processes.flow):
        assert f(made()) == made().alpha(0.5)


def test_a_registered_class_keeps_its_static_fields_and_paths():
    @trees.register
    @dataclasses.dataclass(frozen=True)
    class Node:
        leaf: float
        name: str = dataclasses.field(metadata={"static": True})

    node = Node(1.0, "a")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, node)
    assert doubled == Node(2.0, "a")
    assert jax.tree.structure(node) != jax.tree.structure(Node(1.0, "b"))
    ((path, leaf),) = jax.tree.leaves_with_path(node)
    assert (jax.tree_util.keystr(path), leaf) == (".leaf", 1.0)


def test_registered_classes_are_rebuilt_without_their_init():
    @trees.register
    @dataclasses.dataclass(frozen=True)
    class Node:
        leaf: float
        twice: float = dataclasses.field(init=False)

        def __post_init__(self):
            object.__setattr__(self, "twice", 2 * self.leaf)

    assert jax.tree.map(lambda leaf: leaf + 1, Node(1.0)).twice == 3.0
    mask = jax.tree.map(lambda _: True, jd.processes.vp_linear())
    assert mask.beta_min is True
