"""A batch that a step looks up on the device equals the batch of the host bit for bit."""

import itertools

import jax
import numpy as np
import pytest

from jaxdiff.data import (
    Digits,
    Examples,
    Toy,
    device_arrays,
    from_arrays,
    take,
    training_batches,
    training_indices,
)


@pytest.fixture(scope="module")
def digits():
    return Digits().open()


def on_device(examples):
    return jax.device_put(device_arrays(examples))


def first(batches, count):
    return list(itertools.islice(batches, count))


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        a, b = np.asarray(ours[name]), np.asarray(theirs[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes(), name


def test_batches_equal_those_of_training_batches(digits):
    arrays, step = on_device(digits), jax.jit(take)
    drawn = training_indices(digits, 200, seed=5)
    for batch, expected in zip(first(drawn, 16), training_batches(digits, 200, seed=5), strict=False):
        assert {name: value.dtype for name, value in batch.items()} == {"index": np.int32}
        assert_same_bits(step(arrays, batch), expected)


def test_points_and_unlabelled_sets_equal_those_of_training_batches():
    for examples in (Toy("moons", 100).open(), Toy("checkerboard", 100).open()):
        batch, expected = next(training_indices(examples, 30, seed=1)), next(training_batches(examples, 30, seed=1))
        assert_same_bits(take(on_device(examples), batch), expected)


def test_state_and_rows_equal_those_of_training_batches(digits):
    host = training_batches(digits, 96, seed=2)
    first(host, 13)
    thirds = [training_indices(digits, 96, seed=2, rows=range(32 * i, 32 * i + 32)) for i in range(3)]
    for part in thirds:
        part.set_state(host.get_state())
    for _ in range(3):
        parts = [next(part) for part in thirds]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert_same_bits(take(on_device(digits), whole), next(host))
    assert thirds[0].get_state() == host.get_state() == {"next": 16}


def test_batches_inside_a_scan(digits):
    arrays = on_device(digits)
    batches = first(training_indices(digits, 32, seed=3), 4)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    scanned = jax.jit(lambda arrays, steps: jax.lax.scan(lambda carry, b: (carry, take(arrays, b)), 0, steps)[1])
    expected = first(training_batches(digits, 32, seed=3), 4)
    assert_same_bits(scanned(arrays, stacked), jax.tree.map(lambda *leaves: np.stack(leaves), *expected))


def test_batches_on_several_devices(digits):
    # A mesh of one device runs the same lines; with more forced devices they run on four.
    devices = jax.devices()[: 4 if len(jax.devices()) >= 4 else 1]
    batch, expected = (
        next(training_indices(digits, 32, seed=4)),
        next(training_batches(digits, 32, seed=4)),
    )
    mesh = jax.make_mesh((len(devices),), ("data",), (jax.sharding.AxisType.Auto,), devices=devices)
    rows = jax.NamedSharding(mesh, jax.P("data"))
    arrays = jax.device_put(device_arrays(digits), jax.NamedSharding(mesh, jax.P()))
    step = jax.jit(take, out_shardings=rows)
    out = step(arrays, jax.device_put(batch, rows))
    assert_same_bits(out, expected)
    split = jax.tree.map(lambda leaf: leaf.reshape(len(devices), -1, *leaf.shape[1:]), (batch, expected))
    mapped = jax.pmap(take, in_axes=(None, 0), devices=devices)
    assert_same_bits(mapped(device_arrays(digits), split[0]), split[1])


def test_the_arrays_are_not_copies(digits):
    arrays = device_arrays(digits)
    assert arrays.keys() == {"image", "label"}
    assert all(arrays[name] is digits.source.columns[name] for name in arrays)
    assert arrays["image"].dtype == np.uint8


def test_wrong_arguments_are_refused(digits):
    """Only the refusals of this file, and that `training_draw` checks the rest."""
    not_in_memory = Examples(list(digits.source), digits.fields)
    with pytest.raises(ValueError, match=r"examples\.source = 'list'; allowed are .*in_memory"):
        device_arrays(not_in_memory)
    with pytest.raises(ValueError, match="kind of the field 'caption' = 'text'"):
        device_arrays(from_arrays(caption=["a"]))
    with pytest.raises(ValueError, match="batch_size = 1000000"):
        training_indices(digits, 10**6, seed=0)

    class Large(list):
        def __len__(self):
            return 2**31

    with pytest.raises(ValueError, match=r"len\(examples\) = 2147483648; allowed are lengths below 2\*\*31"):
        training_indices(Examples(Large(), digits.fields), 4, seed=0)
