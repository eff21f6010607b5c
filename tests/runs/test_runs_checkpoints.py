"""Checkpoints: a saved state is restored to the bit, and a damaged checkpoint is never taken for an undamaged one."""

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore

import jaxdiff
from jaxdiff.runs.checkpoints import CheckpointError, Checkpoints, arrays, manifest, retention
from jaxdiff.runs.checkpoints.retention import retained
from jaxdiff.runs.provenance import provenance

CONFIG = {"train": {"steps": 30, "lr": 1e-3}, "name": "toy", "sizes": [1, 2]}


def make_state(seed=0):
    key = jax.random.key(seed)
    params = {
        "dense": {"kernel": jax.random.normal(key, (16, 8)), "bias": jnp.full((8,), seed, jnp.bfloat16)},
        "a/b ~": jnp.arange(3) + seed,
        "power_0": {"05": jnp.float32(seed)},
        "power_0.05": -jnp.float32(seed),
    }
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return {
        "params": params,
        "opt_state": optimiser.init(params),
        "ema": {"fast": jax.tree.map(lambda leaf: leaf * 2, params)},
        "metrics": (jnp.arange(2.0) + seed,),  # a name that Orbax reserves
        "step": jnp.int32(seed),
        "key": jax.random.key(seed + 7),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 4),
        "flags": (jnp.array([True, False]), jnp.zeros((0, 3)), jnp.complex64(1 + 2j), None),
        "host": [np.arange(3, dtype=np.int64) + 2**40, 3, 2.5, True],
    }


def assert_same(left, right):
    """Asserts that structures, types of leaves, dtypes and bits are equal."""
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
    """The largest file, which holds arrays."""
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("abstract", [False, True])
def test_every_kind_of_leaf_is_restored_to_the_bit(tmp_path, abstract):
    state = make_state(5)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.steps() == []
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
    # The restored key gives the same draws as the saved one.
    np.testing.assert_array_equal(jax.random.normal(restored.state["key"], (5,)), jax.random.normal(state["key"], (5,)))


def test_the_arrays_may_be_donated_after_save_has_returned(tmp_path):
    state = {"w": jax.random.normal(jax.random.key(0), (512, 512))}
    expected = np.array(state["w"], copy=True)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        for _ in range(3):
            state = overwrite(state)
        restored = checkpoints.restore(jax.eval_shape(lambda: state)).state
    np.testing.assert_array_equal(restored["w"], expected)


def test_a_grain_iterator_continues_at_its_place(tmp_path):
    def start():
        return iter(grain.MapDataset.range(20).shuffle(seed=3).to_iter_dataset())

    iterator = start()
    for _ in range(7):
        next(iterator)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(1)}, iterator.get_state())
        expected = [int(item) for item in iterator]
        state = checkpoints.restore({"w": jnp.zeros(1)}).iterator_state
    resumed = start()
    resumed.set_state(state)
    assert [int(item) for item in resumed] == expected
    assert len(expected) == 13


def test_only_the_newest_are_kept_and_saving_a_step_twice_is_harmless(tmp_path):
    save_all(tmp_path, [1, 2, 10, 30], keep=2)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [10, 30]
        assert not checkpoints.save(30, make_state(99))
        assert_same(checkpoints.restore(make_state()).state, make_state(30))
        assert_same(checkpoints.restore(make_state(), step=10).state, make_state(10))
        with pytest.raises(CheckpointError, match="no checkpoint of step 2; there are: 10, 30"):
            checkpoints.restore(make_state(), step=2)
        with pytest.raises(CheckpointError, match="step 30, which is newer than step 20"):
            checkpoints.save(20, make_state())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["10", "30"]


def stays(step, metrics, last, every, best):
    """Whether one step is kept: the rule again, by counting the steps that come before it."""
    known = {s: m for s, m in metrics.items() if m is not None and m == m}
    newer = sum(other > step for other in metrics)
    better = (
        sum(m < known[step] or (m == known[step] and s < step) for s, m in known.items()) if step in known else best
    )
    return newer < last or (every > 0 and step % every == 0) or better < best


def test_the_rule_keeps_the_same_steps_after_each_save_as_at_the_end():
    steps = [0, 1, 2, 4, 6]
    values = [None, float("nan"), 0.5, 1.0]
    for chosen in itertools.product(values, repeat=len(steps)):
        history = dict(zip(steps, chosen, strict=True))
        for last, every, best in ((1, 0, 0), (1, 0, 1), (2, 0, 2), (1, 3, 1), (9, 2, 3)):
            expected = {step for step in steps if stays(step, history, last, every, best)}
            assert retained(history, last, every, best) == expected
            on_disk = set()
            for step in steps:
                on_disk = retained({s: history[s] for s in on_disk | {step}}, last, every, best)
                assert step in on_disk
            assert on_disk == expected


def test_retention_continues_after_a_restart(tmp_path):
    metrics = {1: 0.9, 2: 0.1, 3: float("nan"), 4: 0.5, 5: 0.3, 6: 0.2, 7: 0.8, 8: None, 9: 0.7}
    for step, metric in metrics.items():
        with Checkpoints(tmp_path, keep=2, keep_every=4, keep_best=2) as checkpoints:
            checkpoints.save(step, {"w": jnp.full(3, step)}, {"next": step}, metric=metric)
        # The next instance knows only the files.
    assert Checkpoints(tmp_path).steps() == [2, 4, 6, 8, 9]
    for step in (2, 4, 6, 8, 9):
        restored = Checkpoints(tmp_path).restore({"w": jnp.zeros(3, int)}, step)
        np.testing.assert_array_equal(restored.state["w"], np.full(3, step))
        assert (restored.step, restored.iterator_state) == (step, {"next": step})
    flip_meta(tmp_path / "2")
    (tmp_path / "6" / "meta.json").unlink()
    with Checkpoints(tmp_path, keep=1, keep_best=1) as checkpoints:
        checkpoints.save(10, {"w": jnp.zeros(3)})
    assert 10 in checkpoints.steps()
    assert 6 not in checkpoints.steps()


def test_nothing_that_is_not_ours_is_removed(tmp_path):
    """Checkpoints may lie, by a link, in a directory that holds other things."""
    scratch, old = tmp_path / "scratch", tmp_path / "old"
    for name in ("tmp.mine", "tmp.5.kept", "2019", "x.broken"):
        (scratch / name).mkdir(parents=True)
    (tmp_path / "c").symlink_to(scratch)
    save_all(tmp_path / "c", [3000], keep=1)
    (scratch / "3000").rename(old)
    (scratch / "3000").symlink_to(old)  # somebody has moved it to a larger disk
    (scratch / "tmp.7").symlink_to(old)
    (scratch / "tmp.7.1").mkdir()  # of a save that was killed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_all(tmp_path / "c", [4000], keep=1)
    left = ["2019", "4000", "tmp.5.kept", "tmp.7", "tmp.mine", "x.broken"]
    assert sorted(path.name for path in scratch.iterdir()) == left
    assert (old / "manifest.json").is_file()


def test_a_removal_that_fails_is_no_failed_save(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    save_all(tmp_path, [1])
    monkeypatch.setattr(retention.shutil, "rmtree", refuse)
    with pytest.warns(UserWarning, match="step 2 is saved, but an older checkpoint cannot be removed: .*Read-only"):
        save_all(tmp_path, [2], keep=1)
    assert Checkpoints(tmp_path).steps() == [2]


def test_the_version_is_recorded_and_another_one_gives_a_warning(tmp_path):
    one = {"w": jnp.ones(1)}
    with Checkpoints(tmp_path, version=provenance()) as checkpoints:
        checkpoints.save(1, one)
    recorded = json.loads((tmp_path / "1" / "meta.json").read_text())["version"]
    assert recorded["jaxdiff"] == jaxdiff.__version__
    assert (recorded["jax"], recorded["optax"]) == (jax.__version__, optax.__version__)
    assert (recorded["commit"] is None) == (recorded["dirty"] is None)
    with pytest.warns(UserWarning, match=f"was written by jaxdiff {recorded['jaxdiff']}; this is 999.0"):
        Checkpoints(tmp_path, version={"jaxdiff": "999.0"}).restore(one)


def test_commit_and_changes_are_those_of_the_package(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def looked_up():
        provenance.cache_clear()
        return provenance()["commit"], provenance()["dirty"]

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    monkeypatch.setattr("jaxdiff.runs.provenance.PACKAGE", package)
    try:
        assert looked_up() == (None, None)
        git("init", "-q")
        (tmp_path / "other").write_text("")
        git("add", "other")
        git("commit", "-qm", "without the package")
        assert looked_up() == (None, None)
        git("add", "package")
        git("commit", "-qm", "with it")
        assert looked_up() == (git("rev-parse", "HEAD"), False)
        (package / "__init__.py").write_text("a = 2\n")
        assert looked_up() == (git("rev-parse", "HEAD"), True)
        monkeypatch.setenv("PATH", str(package))
        assert looked_up() == (None, None)
    finally:
        provenance.cache_clear()


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


def change_manifest(checkpoint, change):
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def name_a_device(checkpoint):
    change_manifest(checkpoint, lambda m: {**m, "files": {**m["files"], "/dev/zero": [1, 2]}})


def name_another_checkpoint(checkpoint):
    def change(m):
        return {**m, "files": {**m["files"], "../10/meta.json": digest_of(checkpoint.parent / "10" / "meta.json")}}

    change_manifest(checkpoint, change)


def digest_of(path):
    return [path.stat().st_size, zlib.crc32(path.read_bytes())]


def replace_by_a_link(checkpoint):
    """To a file with the same contents."""
    path = array_file(checkpoint)
    path.rename(checkpoint.parent / "elsewhere")
    path.symlink_to(checkpoint.parent / "elsewhere")


def replace_by_a_pipe(checkpoint):
    (checkpoint / "manifest.json").unlink()
    os.mkfifo(checkpoint / "manifest.json")


def nest_the_manifest(checkpoint):
    (checkpoint / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)


def list_sizes_alone(checkpoint):
    change_manifest(checkpoint, lambda m: {**m, "files": {name: size for name, (size, _) in m["files"].items()}})


def change_meta(checkpoint, change):
    """The manifest fits the changed file."""
    path = checkpoint / "meta.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    change_manifest(checkpoint, lambda m: {**m, "files": {**m["files"], "meta.json": digest_of(path)}})


def empty_meta(checkpoint):
    change_meta(checkpoint, lambda _: None)


def lose_the_leaves(checkpoint):
    change_meta(checkpoint, lambda meta: {**meta, "leaves": None})


def enlarge_a_leaf(checkpoint):
    """The files hold another shape."""
    change = {"shape": [10**12], "stored_shape": [10**12]}
    change_meta(checkpoint, lambda m: {**m, "leaves": {**m["leaves"], "step": {**m["leaves"]["step"], **change}}})


ACCIDENTS = [remove_arrays, truncate_arrays, zero_arrays, flip_arrays, empty_directory, garble_manifest, flip_meta]
ATTACKS = [name_a_device, name_another_checkpoint, replace_by_a_link, replace_by_a_pipe, nest_the_manifest]
DAMAGES = [*ACCIDENTS, *ATTACKS, list_sizes_alone, empty_meta, lose_the_leaves, enlarge_a_leaf]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 10 and 20. Tests copy them before they damage them."""
    directory = tmp_path_factory.mktemp("saved")
    save_all(directory, [10, 20])
    return directory


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_newest_checkpoint_is_passed_over_with_a_warning(tmp_path, saved, damage):
    directory = shutil.copytree(saved, tmp_path / "c")
    damage(directory / "20")
    with Checkpoints(directory) as checkpoints:
        with pytest.warns(UserWarning, match=r"20 is broken .*; going back to step 10") as caught:
            restored = checkpoints.restore(make_state())
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert "\n" not in str(caught[0].message)
        assert (restored.step, restored.iterator_state, restored.config["step"]) == (10, {"position": 10}, 10)
        assert_same(restored.state, make_state(10))
        with pytest.raises(CheckpointError, match="20: is broken"):
            checkpoints.restore(make_state(), step=20)


def test_training_continues_from_the_older_and_replaces_the_broken_checkpoint(tmp_path, saved):
    directory = shutil.copytree(saved, tmp_path / "c")
    flip_arrays(directory / "20")
    with Checkpoints(directory) as checkpoints:
        with pytest.warns(UserWarning, match="going back to step 10"):
            checkpoints.restore(make_state())
        # Saves before the step of the broken checkpoint, and at this step.
        assert checkpoints.save(15, make_state(15))
        assert checkpoints.save(20, make_state(21))
    assert (directory / "20.broken").is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(Checkpoints(directory).restore(make_state()).state, make_state(21))


def test_every_single_file_is_guarded(tmp_path):
    state = {"params": {"w": jnp.arange(3.0)}, "step": jnp.int32(1)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
    files = [path for path in (tmp_path / "1").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for path in files:
        before = path.read_bytes()
        for damage in (flip_a_byte, lambda path: os.truncate(path, path.stat().st_size - 1), os.unlink):
            damage(path)
            with pytest.raises(CheckpointError):
                Checkpoints(tmp_path).restore(state)
            path.write_bytes(before)
    assert_same(Checkpoints(tmp_path).restore(state).state, state)


def test_without_an_undamaged_checkpoint_restoring_refuses(tmp_path, saved):
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        Checkpoints(tmp_path / "none").restore(make_state())
    assert not (tmp_path / "none").exists()
    directory = shutil.copytree(saved, tmp_path / "c")
    flip_arrays(directory / "10")
    remove_arrays(directory / "20")
    checkpoints = Checkpoints(directory)
    with pytest.raises(
        CheckpointError, match=r"all checkpoints are broken \(step 20: .*; step 10: .*changed\)"
    ) as error:
        checkpoints.restore(make_state())
    assert str(directory) in str(error.value)
    assert "\n" not in str(error.value)
    # The caller who asks whether there is something to resume does not get an empty list.
    assert checkpoints.steps() == [10, 20]


def test_a_template_that_does_not_fit_is_an_error_and_not_a_reason_to_go_back(saved):
    checkpoints = Checkpoints(saved)

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


def test_parts_are_restored_without_a_template(saved):
    checkpoints = Checkpoints(saved)
    step, parts, config = checkpoints.restore_parts(["ema", "params", "metrics"], step=10)
    assert (step, config["step"]) == (10, 10)
    expected = make_state(10)
    parts["metrics"] = tuple(parts["metrics"].values())
    assert_same(parts, {name: expected[name] for name in ("ema", "params", "metrics")})
    _, everything, _ = checkpoints.restore_parts()
    adam = expected["opt_state"][1][0]
    np.testing.assert_array_equal(everything["opt_state"]["1"]["0"]["mu"]["dense"]["bias"], adam.mu["dense"]["bias"])
    assert everything["keys"].dtype == expected["keys"].dtype
    assert everything["host"]["0"].dtype == np.int64
    with pytest.raises(CheckpointError, match="has no part 'emas'; there are ema, flags"):
        checkpoints.restore_parts(["emas"], step=10)


def test_restoring_a_part_verifies_the_files_of_this_part_alone(tmp_path, saved):
    directory = shutil.copytree(saved, tmp_path / "c")
    flip_a_byte(array_file(directory / "20" / "state" / "part.opt_state"))
    checkpoints = Checkpoints(directory)
    step, parts, _ = checkpoints.restore_parts(["ema"])
    assert step == 20
    assert_same(parts, {"ema": make_state(20)["ema"]})
    for names in (["opt_state"], ["ema", "opt_state"], None):
        with pytest.raises(CheckpointError, match=r"20: is broken: state/part\.opt_state/.*changed"):
            checkpoints.restore_parts(names, step=20)
        with pytest.warns(UserWarning, match="going back to step 10"):
            assert checkpoints.restore_parts(names)[0] == 10
    flip_a_byte(array_file(directory / "20" / "state" / "part.ema"))
    with pytest.warns(UserWarning, match=r"part\.ema.*changed.*going back to step 10"):
        assert checkpoints.restore_parts(["ema"])[0] == 10


def test_a_failed_save_is_reported_and_can_be_repeated(tmp_path):
    """A limit on the size of files replaces a full disk: the write itself fails, in the background."""
    script = f"""
import resource, signal, sys
sys.path[:0] = {[os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]!r}
from test_runs_checkpoints import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoints = Checkpoints({str(tmp_path)!r})
state = {{"w": jax.random.normal(jax.random.key(0), (256, 256))}}
checkpoints.save(1, state)
checkpoints.wait()
step = 1
for room in (0, 300, 1000, 50_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        checkpoints.save(step + 1, state)
        checkpoints.save(step + 2, state)
    except CheckpointError as error:
        assert f"saving step {{step + 1}} failed" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError("no error")
    assert [entry.name for entry in checkpoints.directory.iterdir()] == [str(step)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert_same(checkpoints.restore(state).state, state)
    step += 1
    checkpoints.save(step, state)
    checkpoints.wait()
    assert checkpoints.steps() == [step - 1, step]
    shutil.rmtree(checkpoints.directory / str(step - 1))
checkpoints.close()
print("done")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done\n"
    # Orbax closes its event loop at the first write that fails. A later write may print this harmless traceback.
    late = r"Traceback \(most recent call last\):\n(  .*\n)+RuntimeError: Event loop is closed\n"
    assert re.sub(late, "", result.stderr) == ""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["5"]


def test_a_link_leads_to_any_directory_and_its_path_alone_is_refused(tmp_path):
    """Orbax takes a path for a pattern of file names, and would save nothing there."""
    (tmp_path / "lr=[1e-3]").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "lr=[1e-3]")
    with pytest.raises(ValueError, match=r"directory = '.*lr=\[1e-3\]'; allowed are local paths"):
        Checkpoints(tmp_path / "lr=[1e-3]")
    save_all(tmp_path / "link", [1])
    assert_same(Checkpoints(tmp_path / "link").restore(make_state()).state, make_state(1))


def test_a_save_without_all_arrays_fails_and_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    """The shards of a process that the first process does not see, for instance."""
    state = {"w": {"a": jnp.ones(3), "b": jnp.zeros(3)}}
    with Checkpoints(tmp_path) as some:
        some.save(1, state)
        start = arrays.start_save
        monkeypatch.setattr(arrays, "start_save", lambda place, flat: start(place, {"w.a": flat["w.a"]}))
        some.save(2, state)
        with pytest.raises(CheckpointError, match=r"saving step 2 failed: the files do not hold w\.b"):
            some.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def change_shape(store):
    found = json.loads(store.read("params.dense.kernel/zarr.json").result().value)
    store.write("params.dense.kernel/zarr.json", json.dumps(found | {"shape": [10**12, 8]})).result()


def remove_chunks(store):
    store.delete_range(tensorstore.KvStore.KeyRange("params.dense.kernel/c", "params.dense.kernel/d")).result()


@pytest.mark.parametrize(
    ("change", "words"),
    [(change_shape, r"do not hold {} as float32 of shape \(16, 8\)"), (remove_chunks, "hold {} in part only")],
)
def test_arrays_that_the_files_do_not_hold_are_neither_allocated_nor_read_as_zeros(tmp_path, saved, change, words):
    """The manifest fits these files."""
    directory = shutil.copytree(saved, tmp_path / "c") / "20"
    base = {"driver": "file", "path": f"{directory / 'state' / 'part.params'}/"}
    change(tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result())
    (directory / "manifest.json").unlink()
    manifest.write(directory)
    with pytest.raises(CheckpointError, match="is broken: the files " + words.format("params.dense.kernel")):
        Checkpoints(tmp_path / "c").restore(make_state(), 20)


def test_the_end_of_the_block_waits_and_reports_a_failure(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    state = {"w": jnp.ones(3)}
    monkeypatch.setattr("jaxdiff.runs.checkpoints.saving.write_atomically", refuse)
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


def test_nothing_of_a_failed_last_save_stays(tmp_path, monkeypatch):
    """Neither where the disk is full after the first directory, nor where a thread of Orbax writes on for a while."""

    def refuse(*_):
        raise OSError(28, "No space left on device")

    def start(place, _):
        late = threading.Timer(0.2, lambda: place.mkdir(parents=True))
        late.start()
        threads.append(late)
        refuse()

    threads = []
    for owner, name, change in ((Path, "touch", refuse), (arrays, "start_save", start)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, change)
            with pytest.raises(CheckpointError, match="No space left"), Checkpoints(tmp_path / "c") as some:
                some.save(1, {"w": jnp.ones(3)})
        assert not any(thread.is_alive() for thread in threads)
        assert not list((tmp_path / "c").iterdir())


def test_sigkill_at_any_moment_of_a_save_leaves_the_previous_checkpoint(tmp_path):
    """Kills around every rename, at seeded random file operations, and at seeded random times while Orbax writes."""
    script = """
import os, random, signal, sys, time
import jax, jax.numpy as jnp
import numpy as np
from jaxdiff.runs.checkpoints import Checkpoints

directory = sys.argv[1]
TOUCHING = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}

def train(kill_at):
    checkpoints = Checkpoints(directory, keep=1)
    step = max(checkpoints.steps(), default=0) + 1
    seen = []

    def watch(event, arguments):
        if event in TOUCHING and str(arguments[0]).startswith(directory):
            seen.append(event)
            if len(seen) - 1 == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    w = np.random.default_rng(step).standard_normal((300, 300)).astype(np.float32)
    state = {"w": jnp.asarray(w), "step": jnp.int32(step)}
    sys.addaudithook(watch)
    checkpoints.save(step, state, {"position": step})
    checkpoints.close()
    os.write(1, ("events " + " ".join(seen) + "\\n").encode())
    os._exit(0)

# Modules are imported once. Each killed child starts a JAX of its own after the fork.
for line in sys.stdin:
    kind, value = line.split()
    child = os.fork()
    if child == 0:
        train(int(value) if kind == "event" else -1)
    if kind == "time":
        time.sleep(float(value))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.write(1, b"over\\n")
"""
    template = {"w": jax.ShapeDtypeStruct((300, 300), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)}
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)]
    rng = random.Random(0)
    reached, interrupted = 0, 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def killed(kind, value):
            """Kills a child, checks the newest checkpoint, and returns the lines that the child printed."""
            nonlocal reached, interrupted
            process.stdin.write(f"{kind} {value}\n")
            process.stdin.flush()
            said = []
            while (line := process.stdout.readline().strip()) != "over":
                assert line, "the script died"
                said.append(line)
            interrupted += bool(list(tmp_path.glob("tmp.*")))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                restored = Checkpoints(tmp_path).restore(template)
            assert reached <= restored.step <= reached + 1
            assert restored.step == int(restored.state["step"]) == restored.iterator_state["position"]
            expected = np.random.default_rng(restored.step).standard_normal((300, 300)).astype(np.float32)
            np.testing.assert_array_equal(restored.state["w"], expected)
            reached = restored.step
            return said

        killed("event", -2)
        begun = time.monotonic()
        events = killed("event", -2)[-1].split()[1:]
        whole = time.monotonic() - begun
        renames = [index for index, event in enumerate(events) if event == "os.rename"]
        assert len(renames) >= 3
        moments = {moment for index in renames for moment in (index, index + 1) if moment < len(events)}
        moments |= {rng.randrange(len(events)) for _ in range(5)}
        for moment in sorted(moments):
            assert not any(line.startswith("events") for line in killed("event", moment)), "it was not killed"
        for _ in range(4):
            killed("time", rng.uniform(0.3, 1.1) * whole)
        process.stdin.close()
    assert interrupted >= 5
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.save(reached + 1, Checkpoints(tmp_path).restore(template).state)
    assert not list(tmp_path.glob("tmp.*"))


def test_only_our_warning_is_printed(tmp_path, saved):
    directory = shutil.copytree(saved, tmp_path / "c")
    next(path for path in directory.glob("20/**/_METADATA")).unlink()
    script = f"""
from jaxdiff.runs.checkpoints import Checkpoints
with Checkpoints({str(directory)!r}) as checkpoints:
    step, parts, _ = checkpoints.restore_parts()
    checkpoints.save(step + 1, parts)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert "is broken" in lines[0]
    assert len(lines) <= 2, result.stderr


def test_wrong_arguments_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(NotADirectoryError, match=f"{name} is not a directory"):
            Checkpoints(tmp_path / name)
    for name, value, least in (("keep", 0, 1), ("keep_every", -1, 0), ("keep_best", -2, 0)):
        with pytest.raises(ValueError, match=f"{name} = {value}; allowed are integers of at least {least}"):
            Checkpoints(tmp_path, **{name: value})
    checkpoints = Checkpoints(tmp_path / "c")
    one = {"w": jnp.ones(1)}
    with pytest.raises(ValueError, match="step = -1; allowed are integers of at least 0"):
        checkpoints.save(-1, one)
    with pytest.raises(TypeError, match=r"state\.a\.name = str; allowed are arrays of numbers, numbers and PRNG keys"):
        checkpoints.save(1, {"a": {"name": "x"}})
    with pytest.raises(TypeError, match=r"state\.big\.dtype = object; allowed are arrays of numbers"):
        checkpoints.save(1, {"big": 2**80})
    with pytest.raises(TypeError, match="config cannot be written as JSON"):
        checkpoints.save(1, one, None, {"f": json})
    with pytest.raises(TypeError, match="iterator_state cannot be written as JSON"):
        checkpoints.save(1, one, object())
    for state in ({}, jnp.ones(1), {"a": {"": jnp.ones(1)}}, {"a": jnp.ones((0, 2))}):
        with pytest.raises(ValueError, match=r"state has .*; allowed are"):
            checkpoints.save(1, state)
    assert not (tmp_path / "c").exists()
