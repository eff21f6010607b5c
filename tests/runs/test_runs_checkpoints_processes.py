"""Checkpoints of several processes and devices: any number of them saves and restores the same checkpoint."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from devices import forced, free_port

from jaxdiff.runs.checkpoints import Checkpoints

STATE = """
import json, os, resource, signal, sys, time, warnings
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxdiff.runs.checkpoints import saving
from jaxdiff.runs.checkpoints import CheckpointError, Checkpoints

def host_state(step):
    w = np.random.default_rng(step).standard_normal((64, 256)).astype(np.float32)
    keys = jax.random.split(jax.random.key(step), 8)
    none = np.zeros((0, 2), np.float32)
    return {"params": {"w": w, "b": w[0]}, "mu": [w * 2], "step": np.int32(step), "keys": keys, "none": none}

def shardings(mesh, axis):
    on = lambda *spec: NamedSharding(mesh, P(*spec))
    kernel = on(*(["fsdp" if i == axis else None for i in range(2)]))
    return {"params": {"w": kernel, "b": on()}, "mu": [kernel], "step": on(), "keys": on("data"), "none": on()}

def state_on(mesh, axis, step):
    def put(leaf, sharding):
        if leaf.dtype == jax.random.key(0).dtype:
            raw = put(np.asarray(jax.random.key_data(leaf)), sharding)
            return jax.random.wrap_key_data(raw)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
    return jax.tree.map(put, host_state(step), shardings(mesh, axis))

def template_on(mesh, axis):
    abstract = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return jax.tree.map(abstract, host_state(0), shardings(mesh, axis))

def check(restored, step, mesh, axis):
    assert restored.step == step, restored.step
    def compare(leaf, expected, sharding):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim), leaf.sharding
        if leaf.dtype == jax.random.key(0).dtype:
            leaf, expected = jax.random.key_data(leaf), np.asarray(jax.random.key_data(expected))
        for shard in leaf.addressable_shards:
            assert np.asarray(shard.data).tobytes() == np.ascontiguousarray(expected[shard.index]).tobytes()
    jax.tree.map(compare, restored.state, host_state(step), shardings(mesh, axis))
"""

TWO_PROCESSES = """
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rank, directory = jax.process_index(), sys.argv[3]
assert jax.device_count() == 4 and jax.local_device_count() == 2
mesh = jax.make_mesh((1, 4), ("data", "fsdp"))
other = jax.make_mesh((2, 2), ("data", "fsdp"))
told = []

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def expect_error(action):
    start = time.monotonic()
    try:
        action()
    except CheckpointError as error:
        told.append(str(error))
    else:
        raise AssertionError("no error")
    assert time.monotonic() - start < 20

def save_and_wait(step):
    checkpoints.save(step, state_on(mesh, 0, step), {"next": step})
    checkpoints.wait()

checkpoints = Checkpoints(directory, keep=2)
step = 1
save_and_wait(step)
for failing in (0, 1):
    # Only one process runs out of disk space. Both raise the error, nothing is left over, and the next save works.
    if rank == failing:
        limit(3000)
    expect_error(lambda: save_and_wait(step + 1))
    limit(resource.RLIM_INFINITY)
    assert checkpoints.steps()[-1] == step
    step += 1
    save_and_wait(step)
write = saving.write_atomically
if rank == 0:
    def refuse(*_):
        raise OSError(28, "No space left on device")
    saving.write_atomically = refuse
expect_error(lambda: save_and_wait(9))
saving.write_atomically = write
expect_error(lambda: checkpoints.save(9, state_on(mesh, 0, 9), {"next": rank}))
expect_error(lambda: Checkpoints(directory + "ab"[rank]).save(9, state_on(mesh, 0, 9)))
expect_error(lambda: checkpoints.save(step + rank + 1, state_on(mesh, 0, 9)))
save_and_wait(9)
if rank == 0:
    meta = checkpoints.directory / "9" / "meta.json"
    meta.write_text(meta.read_text()[:-9])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    restored = Checkpoints(directory).restore(template_on(other, 1))
assert len([w for w in caught if "going back" in str(w.message)]) == (rank == 0), caught
check(restored, step, other, 1)
assert restored.iterator_state == {"next": step}
expect_error(lambda: Checkpoints(directory).restore(template_on(other, 1), step=9))
_, parts, _ = Checkpoints(directory).restore_parts(["params"], step=step)
assert np.asarray(parts["params"]["w"]).tobytes() == host_state(step)["params"]["w"].tobytes()
told.append(checkpoints.steps())
print(json.dumps(told), flush=True)
jax.experimental.multihost_utils.sync_global_devices("end")
os._exit(0)
"""


def run_processes(script, count, devices, *arguments):
    """Runs a script in `count` processes of `devices` devices each, and returns their standard outputs."""
    address, env = f"localhost:{free_port()}", forced(devices)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, address, str(rank), *map(str, arguments)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    outputs = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=100)
            assert process.returncode == 0, err
            outputs.append(out)
    finally:
        for process in processes:
            process.kill()
    return outputs


def expected_leaves(step):
    w = np.random.default_rng(step).standard_normal((64, 256)).astype(np.float32)
    return w, np.asarray(jax.random.key_data(jax.random.split(jax.random.key(step), 8)))


def template_on_one_device():
    shapes = {"params": {"w": jnp.zeros((64, 256)), "b": jnp.zeros(256)}, "mu": [jnp.zeros((64, 256))]}
    keys = jax.random.split(jax.random.key(0), 8)
    return {**shapes, "step": jnp.int32(0), "keys": keys, "none": jnp.zeros((0, 2))}


def test_two_processes_save_fail_and_restore_together(tmp_path):
    directory = tmp_path / "c"
    first, second = run_processes(STATE + TWO_PROCESSES, 2, 2, directory)
    told = json.loads(first.splitlines()[-1])
    # Both raised errors with identical texts.
    assert told == json.loads(second.splitlines()[-1])
    *errors, steps = told
    assert steps == [3, 9]
    # Each error names the step, and gives the reason of the process that failed.
    assert [error.split(": ")[1] for error in errors[:3]] == [f"saving step {step} failed" for step in (2, 3, 9)]
    assert all("too large" in error.lower() for error in errors[:2])
    assert "No space left" in errors[2]
    assert "process 1 saves another iterator_state" in errors[3]
    assert all("process 1 does not find it" in error for error in errors[4:6])
    assert "9: is broken: meta.json" in errors[6]
    # One process restores the checkpoint of two.
    with Checkpoints(directory) as alone:
        restored = alone.restore(template_on_one_device(), step=3)
        w, keys = expected_leaves(3)
        assert np.asarray(restored.state["params"]["w"]).tobytes() == w.tobytes()
        assert np.asarray(restored.state["mu"][0]).tobytes() == (w * 2).tobytes()
        assert np.asarray(jax.random.key_data(restored.state["keys"])).tobytes() == keys.tobytes()
        assert restored.iterator_state == {"next": 3}
    assert not list(directory.glob("tmp.*"))


def test_from_one_device_to_eight_to_four_to_one(tmp_path):
    script = (
        STATE
        + """
devices, source, target = int(sys.argv[3]), sys.argv[4], sys.argv[5]
assert jax.device_count() == devices
mesh = jax.make_mesh((2, devices // 2), ("data", "fsdp"))
restored = Checkpoints(source).restore(template_on(mesh, devices == 4))
check(restored, 7, mesh, devices == 4)
with Checkpoints(target) as checkpoints:
    checkpoints.save(7, restored.state)
if devices == 8:
    # On the same devices with other shardings; and without a template on one device.
    for other, axis in ((jax.make_mesh((4, 2), ("data", "fsdp")), 1), (mesh, None)):
        check(Checkpoints(target).restore(template_on(other, axis)), 7, other, axis)
    _, parts, _ = Checkpoints(target).restore_parts(["params"])
    assert len(parts["params"]["w"].sharding.device_set) == 1
"""
    )
    w, keys = expected_leaves(7)
    state = {"params": {"w": jnp.asarray(w), "b": jnp.asarray(w[0])}, "mu": [jnp.asarray(w * 2)]}
    state |= {"step": jnp.int32(7), "keys": jax.random.split(jax.random.key(7), 8), "none": jnp.zeros((0, 2))}
    with Checkpoints(tmp_path / "1") as checkpoints:
        checkpoints.save(7, state)
    run_processes(script, 1, 8, 8, tmp_path / "1", tmp_path / "8")
    run_processes(script, 1, 4, 4, tmp_path / "8", tmp_path / "4")
    for source in ("8", "4"):
        restored = Checkpoints(tmp_path / source).restore(template_on_one_device()).state
        assert np.asarray(restored["params"]["w"]).tobytes() == w.tobytes()
        assert np.asarray(jax.random.key_data(restored["keys"])).tobytes() == keys.tobytes()
        assert restored["none"].shape == (0, 2)
