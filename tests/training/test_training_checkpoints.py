"""Checkpoints: what is saved comes back to the bit, and what is damaged is never taken for whole."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.training.checkpoints import CheckpointError, Checkpoints

CONFIG = {"train": {"steps": 30, "lr": 1e-3}, "name": "toy", "sizes": [1, 2]}


def make_state(seed=0):
    key = jax.random.key(seed)
    params = {
        "dense": {"kernel": jax.random.normal(key, (16, 8)), "bias": jnp.full((8,), seed, jnp.bfloat16)},
        "a/b ~": jnp.arange(3) + seed,
    }
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return {
        "params": params,
        "opt_state": optimiser.init(params),
        "ema": {"fast": jax.tree.map(lambda leaf: leaf * 2, params)},
        "step": jnp.int32(seed),
        "key": jax.random.key(seed + 7),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 4),
        "flags": (jnp.array([True, False]), jnp.zeros((0, 3)), jnp.complex64(1 + 2j), None),
        "host": [np.arange(3, dtype=np.int64) + 2**40, 3, 2.5, True],
    }


def assert_same(left, right):
    """Equal structure, leaf types, dtypes and bits."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True):
        where = jax.tree_util.keystr(path)
        assert isinstance(a, jax.Array) == isinstance(b, jax.Array), where
        if isinstance(a, jax.Array):
            assert a.dtype == b.dtype, where
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
        else:
            assert type(a) is type(b), where
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), where


def save_all(directory, steps, keep=3):
    with Checkpoints(directory, keep=keep) as checkpoints:
        for step in steps:
            assert checkpoints.save(step, make_state(step), {"position": step}, {**CONFIG, "step": step})


def array_file(directory):
    """The file that holds the arrays: the largest."""
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("abstract", [False, True])
def test_round_trip_of_every_kind_of_leaf(tmp_path, abstract):
    state = make_state(5)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest_step() is None
        assert checkpoints.save(5, state, {"position": 3, "name": "x"}, CONFIG)
    template = make_state(9)
    if abstract:
        host = template["host"]
        template = jax.eval_shape(lambda: {name: leaf for name, leaf in make_state(9).items() if name != "host"})
        template["host"] = host
    with Checkpoints(tmp_path / "c") as checkpoints:
        restored = checkpoints.restore(template)
    assert restored.step == 5
    assert restored.iterator_state == {"position": 3, "name": "x"}
    assert restored.config == CONFIG
    assert_same(state, restored.state)
    # A restored key draws what the saved one would have drawn.
    np.testing.assert_array_equal(jax.random.normal(restored.state["key"], (5,)), jax.random.normal(state["key"], (5,)))


def test_the_arrays_may_be_donated_once_save_has_returned(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (512, 512))}
    expected = np.array(state["w"], copy=True)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        for _ in range(3):
            state = overwrite(state)
        restored = checkpoints.restore(jax.eval_shape(lambda: state)).state
    np.testing.assert_array_equal(restored["w"], expected)


def test_grain_iterators_go_on_where_they_were(tmp_path):
    def loader():
        sampler = grain.samplers.IndexSampler(20, shuffle=True, seed=3, num_epochs=1)
        return grain.DataLoader(data_source=range(20), sampler=sampler, worker_count=0)

    def dataset():
        return grain.MapDataset.range(20).shuffle(seed=3).to_iter_dataset()

    for index, make in enumerate((loader, dataset)):
        iterator = iter(make())
        for _ in range(7):
            next(iterator)
        with Checkpoints(tmp_path / str(index)) as checkpoints:
            checkpoints.save(1, {"w": jnp.zeros(1)}, iterator.get_state())
            expected = [int(item) for item in iterator]
            state = checkpoints.restore({"w": jnp.zeros(1)}).iterator_state
        resumed = iter(make())
        resumed.set_state(state)
        assert [int(item) for item in resumed] == expected
        assert len(expected) == 13


def test_only_the_newest_are_kept_and_saving_a_step_twice_is_harmless(tmp_path):
    save_all(tmp_path, [1, 2, 10, 30], keep=2)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [10, 30]
        assert checkpoints.latest_step() == 30
        assert not checkpoints.save(30, make_state(99))
        assert_same(checkpoints.restore(make_state()).state, make_state(30))
        assert_same(checkpoints.restore(make_state(), step=10).state, make_state(10))
        with pytest.raises(CheckpointError, match="no checkpoint of step 2; there are: 10, 30"):
            checkpoints.restore(make_state(), step=2)
        with pytest.raises(CheckpointError, match="step 30, newer than step 20"):
            checkpoints.save(20, make_state())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["10", "30"]


def remove_arrays(checkpoint):
    array_file(checkpoint).unlink()


def truncate_arrays(checkpoint):
    path = array_file(checkpoint)
    os.truncate(path, path.stat().st_size // 2)


def zero_arrays(checkpoint):
    path = array_file(checkpoint)
    path.write_bytes(bytes(path.stat().st_size))


def flip_arrays(checkpoint):
    flip_a_byte(array_file(checkpoint))


def empty_directory(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def garble_manifest(checkpoint):
    (checkpoint / "manifest.json").write_bytes(b'{"format": 1, "files": {"meta')


def flip_meta(checkpoint):
    flip_a_byte(checkpoint / "meta.json")


DAMAGES = [remove_arrays, truncate_arrays, zero_arrays, flip_arrays, empty_directory, garble_manifest, flip_meta]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_newest_checkpoint_gives_way_to_the_older_with_a_warning(tmp_path, damage):
    save_all(tmp_path, [10, 20])
    damage(tmp_path / "20")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(UserWarning, match=r"20 is broken .*; going back to step 10") as caught:
            restored = checkpoints.restore(make_state())
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert "\n" not in str(caught[0].message)
        assert (restored.step, restored.iterator_state, restored.config["step"]) == (10, {"position": 10}, 10)
        assert_same(restored.state, make_state(10))
        with pytest.raises(CheckpointError, match="20: is broken"):
            checkpoints.restore(make_state(), step=20)
        # Training goes on from 10, in steps that end short of the broken checkpoint and then pass over it.
        assert checkpoints.save(15, make_state(15))
        assert checkpoints.save(20, make_state(21))
    assert (tmp_path / "20.broken").is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(Checkpoints(tmp_path).restore(make_state()).state, make_state(21))


def test_every_single_file_is_guarded(tmp_path):
    save_all(tmp_path, [1])
    files = [path for path in (tmp_path / "1").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for path in files:
        before = path.read_bytes()
        flip_a_byte(path)
        with pytest.raises(CheckpointError):
            Checkpoints(tmp_path).restore(make_state())
        path.write_bytes(before)
    assert_same(Checkpoints(tmp_path).restore(make_state()).state, make_state(1))


def test_where_nothing_is_whole_restoring_refuses(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        Checkpoints(tmp_path / "none").restore(make_state())
    assert not (tmp_path / "none").exists()
    save_all(tmp_path, [1, 2])
    flip_arrays(tmp_path / "1")
    remove_arrays(tmp_path / "2")
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole \(step 2: .*; step 1: .*changed\)") as error:
        checkpoints.restore(make_state())
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    # The caller who asks whether there is something to resume is not told "no".
    assert checkpoints.latest_step() == 2


def test_a_template_that_does_not_fit_is_an_error_and_not_a_reason_to_go_back(tmp_path):
    save_all(tmp_path, [1, 2])
    checkpoints = Checkpoints(tmp_path)

    def template(change):
        state = make_state()
        change(state)
        return state

    def reshape(state):
        state["params"]["dense"]["kernel"] = jnp.zeros((16, 9))

    def retype(state):
        state["params"]["dense"]["bias"] = jnp.zeros((8,), jnp.float32)

    def other_key(state):
        state["key"] = jax.random.key(0, impl="rbg")

    cases = [
        (reshape, r"leaf params\.dense\.kernel has shape \(16, 8\) in the checkpoint, \(16, 9\) in the template"),
        (retype, r"leaf params\.dense\.bias has dtype bfloat16 in the checkpoint, float32 in the template"),
        (other_key, r"leaf key has dtype key<fry> in the checkpoint, key<rbg> in the template"),
        (lambda state: state["ema"].pop("fast"), r"leaf ema\.fast\.\S.* is in the checkpoint, but not in the template"),
        (lambda state: state.update(new=jnp.zeros(1)), "leaf new is in the template, but not in the checkpoint"),
    ]
    for change, message in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(CheckpointError, match=message):
                checkpoints.restore(template(change))


def test_parts_come_back_without_a_template(tmp_path):
    save_all(tmp_path, [3, 4])
    flip_arrays(tmp_path / "4")
    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(UserWarning, match="going back to step 3"):
        step, parts, config = checkpoints.restore_parts(["ema", "params"])
    assert (step, config["step"]) == (3, 3)
    expected = make_state(3)
    assert_same(parts, {"ema": expected["ema"], "params": expected["params"]})
    with pytest.warns(UserWarning, match="going back"):
        _, everything, _ = checkpoints.restore_parts()
    adam = expected["opt_state"][1][0]
    np.testing.assert_array_equal(everything["opt_state"]["1"]["0"]["mu"]["dense"]["bias"], adam.mu["dense"]["bias"])
    assert everything["keys"].dtype == expected["keys"].dtype
    assert everything["host"]["0"].dtype == np.int64
    with pytest.raises(CheckpointError, match="holds no part 'emas'; there are ema, flags"):
        checkpoints.restore_parts(["emas"], step=3)


def test_a_save_that_fails_is_told_and_can_be_repeated(tmp_path):
    """A file-size limit stands in for a full disk: the write itself fails, in the background."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_training_checkpoints import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoints = Checkpoints({str(tmp_path)!r})
state = {{"w": jax.random.normal(jax.random.key(0), (256, 256))}}
checkpoints.save(1, state)
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
checkpoints.save(2, state)
try:
    checkpoints.save(3, state)
except CheckpointError as error:
    assert "saving step 2 failed" in str(error) and "\\n" not in str(error), error
else:
    raise AssertionError("nothing was told")
assert checkpoints.steps() == [1]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert_same(checkpoints.restore(state).state, state)
checkpoints.save(3, state)
checkpoints.close()
assert checkpoints.steps() == [1, 3]
print("done")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done\n"
    assert result.stderr == ""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1", "3"]


def test_leaving_the_block_waits_and_tells(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    state = {"w": jnp.ones(3)}
    monkeypatch.setattr("jaxdiff.training.checkpoints.write_atomically", refuse)
    with pytest.raises(CheckpointError, match=r"saving step 1 failed: .*No space left"), Checkpoints(tmp_path) as some:
        some.save(1, state)

    def fail_while_saving():
        with Checkpoints(tmp_path) as some:
            some.save(1, state)
            raise KeyError("the reason for leaving")

    with pytest.warns(UserWarning, match="No space left"), pytest.raises(KeyError):
        fail_while_saving()
    monkeypatch.undo()
    with Checkpoints(tmp_path) as some:
        some.save(1, state)
    assert some.steps() == [1]


def test_sigkill_during_saving_leaves_the_one_before(tmp_path):
    """Killed at several moments of a save, and as soon as it is listed, the newest checkpoint listed is whole."""
    script = f"""
import sys
import jax, jax.numpy as jnp
from jaxdiff.training.checkpoints import Checkpoints
checkpoints = Checkpoints({str(tmp_path)!r}, keep=2)
key = jax.random.key(0)
first = (checkpoints.latest_step() or 0) + 1
for step in range(first, 1000):
    state = {{"w": jax.random.normal(jax.random.fold_in(key, step), (600, 600)), "step": jnp.int32(step)}}
    jax.block_until_ready(state)
    checkpoints.save(step, state, {{"position": step}}, {{"step": step}})
    print(step, flush=True)
"""
    template = {"w": jax.ShapeDtypeStruct((600, 600), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)}
    reached, interrupted = 0, 0
    for delay in (0.0, 0.01, None):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(3):
                line = process.stdout.readline()
            deadline = time.monotonic() + 60
            while delay is None and not (tmp_path / line.strip()).exists() and time.monotonic() < deadline:
                pass
            time.sleep(delay or 0.0)
            process.send_signal(signal.SIGKILL)
        interrupted += len(list(tmp_path.glob("tmp.*")))
        # Saving step n has begun, so n - 1 is finished.
        assert line, "the process died by itself"
        checkpoints = Checkpoints(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            restored = checkpoints.restore(template)
        assert restored.step >= int(line) - (delay is not None) > reached
        assert int(restored.state["step"]) == restored.step == restored.iterator_state["position"]
        expected = jax.random.normal(jax.random.fold_in(jax.random.key(0), restored.step), (600, 600))
        np.testing.assert_array_equal(restored.state["w"], expected)
        reached = restored.step
    assert interrupted, "no kill fell into a save"
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.save(reached + 1, restored.state)
    assert not list(tmp_path.glob("tmp.*"))
    assert Checkpoints(tmp_path).restore(template).step == reached + 1


def test_restoring_onto_another_number_of_devices(tmp_path):
    """Saved on 8 devices, restored onto 8 in another layout and onto 1; and the reverse."""
    script = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxdiff.training.checkpoints import Checkpoints
assert jax.device_count() == 8
mesh = jax.make_mesh((4, 2), ("data", "fsdp"))
on = lambda *spec: NamedSharding(mesh, P(*spec))
w = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)
keys = jax.random.split(jax.random.key(3), 8)
one = Checkpoints(sys.argv[1])
first = one.restore({"w": jax.ShapeDtypeStruct((16, 8), jnp.float32, sharding=on("fsdp", "data")),
                     "keys": jax.ShapeDtypeStruct((8,), keys.dtype, sharding=on("data")),
                     "none": jax.ShapeDtypeStruct((0, 2), jnp.float32, sharding=on())}).state
assert first["w"].sharding == on("fsdp", "data"), first["w"].sharding
assert first["keys"].sharding.is_equivalent_to(on("data"), 1), first["keys"].sharding
np.testing.assert_array_equal(first["w"], w)
np.testing.assert_array_equal(jax.random.key_data(first["keys"]), jax.random.key_data(keys))
with Checkpoints(sys.argv[2]) as eight:
    eight.save(1, first)
second = Checkpoints(sys.argv[2]).restore(jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on(None)), first)).state
assert second["w"].sharding.is_fully_replicated and len(second["w"].sharding.device_set) == 8
np.testing.assert_array_equal(second["w"], w)
_, parts, _ = Checkpoints(sys.argv[2]).restore_parts(["w"])
assert len(parts["w"].sharding.device_set) == 1
"""
    state = {
        "w": jnp.arange(16 * 8, dtype=jnp.float32).reshape(16, 8),
        "keys": jax.random.split(jax.random.key(3), 8),
        "none": jnp.zeros((0, 2)),
    }
    with Checkpoints(tmp_path / "one") as checkpoints:
        checkpoints.save(1, state)
    command = [sys.executable, "-c", script, str(tmp_path / "one"), str(tmp_path / "eight")]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert_same(Checkpoints(tmp_path / "eight").restore(state).state, state)


def test_two_processes_save_and_restore_one_checkpoint(tmp_path):
    """Each has its own half of the array and its own data iterator; one process cannot go on from two iterators."""
    script = """
import sys
import jax, jax.numpy as jnp, numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxdiff.training.checkpoints import Checkpoints, CheckpointError
rank = jax.process_index()
sharding = NamedSharding(jax.make_mesh((2,), ("data",)), P("data"))
w = np.arange(8.0, dtype=np.float32)
state = {"w": jax.make_array_from_callback((8,), sharding, lambda index: w[index])}
with Checkpoints(sys.argv[3]) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, state, {"rank": rank, "step": step, "pad": "x" * (1 + 9 * rank)})
if rank == 0:
    (checkpoints.directory / "2" / "meta.json").write_text("{}")
restored = Checkpoints(sys.argv[3]).restore(state)
assert restored.step == 1 and restored.iterator_state["rank"] == rank
assert restored.state["w"].sharding == sharding
for shard in restored.state["w"].addressable_shards:
    np.testing.assert_array_equal(shard.data, w[shard.index])
try:
    Checkpoints(sys.argv[3]).restore(state, step=2)
except CheckpointError:
    print("refused")
"""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    directory = str(tmp_path / "c")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, address, str(rank), directory],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in processes:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            assert out.endswith("refused\n")
    finally:
        for process in processes:
            process.kill()
    (tmp_path / "c" / "2").rename(tmp_path / "2")
    alone = Checkpoints(directory)
    with pytest.raises(CheckpointError, match="differing data iterator states of 2 processes"):
        alone.restore({"w": jnp.zeros(8)})
    np.testing.assert_array_equal(alone.restore_parts(["w"])[1]["w"], np.arange(8.0))


def test_nothing_is_printed_but_our_warning(tmp_path):
    script = f"""
import jax.numpy as jnp
from jaxdiff.training.checkpoints import Checkpoints
state = {{"w": jnp.ones(300)}}
with Checkpoints({str(tmp_path)!r}) as checkpoints:
    checkpoints.save(1, state, b"x", {{}})
    checkpoints.save(2, state, b"x", {{}})
next(path for path in checkpoints.directory.glob("2/**/_METADATA")).unlink()
assert Checkpoints(checkpoints.directory).restore(state).iterator_state == b"x"
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert "is broken" in lines[0]
    assert len(lines) <= 2, result.stderr


def test_wrong_arguments_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is not a directory"):
        Checkpoints(tmp_path / "file")
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)
    checkpoints = Checkpoints(tmp_path / "c")
    one = {"w": jnp.ones(1)}
    with pytest.raises(ValueError, match="step=-1"):
        checkpoints.save(-1, one)
    with pytest.raises(TypeError, match=r"leaf a\.name: str cannot be saved"):
        checkpoints.save(1, {"a": {"name": "x"}})
    with pytest.raises(TypeError, match="leaf big: dtype object"):
        checkpoints.save(1, {"big": 2**80})
    with pytest.raises(TypeError, match="config: cannot be written as JSON"):
        checkpoints.save(1, one, None, {"f": json})
    with pytest.raises(TypeError, match="iterator_state: cannot be written as JSON"):
        checkpoints.save(1, one, object())
    for state in ({}, jnp.ones(1), {"a": {"b": jnp.ones(1)}, "a.b": jnp.ones(1)}, {"a": one["w"], "a.b": one["w"]}):
        with pytest.raises(ValueError, match="state"):
            checkpoints.save(1, state)
    assert not (tmp_path / "c").exists()
