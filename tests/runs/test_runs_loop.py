"""Training: an interrupted run comes to the same bits as a whole one, and the run on disk is never harmed."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from run_files import act_at, assert_same_run, change_batches, final_state, metrics, steps
from run_settings import TOY, contents, replaced

import jaxdiff as jd
from jaxdiff.augmentations import Flip
from jaxdiff.cli import command_line
from jaxdiff.components import to_json
from jaxdiff.conditions import Label
from jaxdiff.data import Digits, Toy
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import UNet
from jaxdiff.runs.checkpoints import CheckpointError, saving
from jaxdiff.runs.config import Config, TrainConfig
from jaxdiff.runs.directory import open_run, read_config
from jaxdiff.runs.loop import train
from jaxdiff.runs.recipe import load_frozen, make_training
from jaxdiff.runs.trainer import DivergedError
from jaxdiff.runs.window import Window

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("compiled_once")


class Broken(Toy):
    """Points that cannot be shown."""

    def show(self, x, fields, captions=()):
        raise KeyError("nothing to see")


class Misnamed(Toy):
    """Points that are shown in a place where no file may be."""

    def show(self, x, fields, captions=()):
        return {"../samples.png": b""}


class Told(Toy):
    """Points that are shown in words."""

    def show(self, x, fields, captions=()):
        return {"samples.txt": f"{len(x['x'])} {captions[0]} {captions[7]}".encode()}


KILLED = """
import json, os, signal, sys
import pytest
sys.path[:0] = [sys.argv[1]]
from run_files import act_at
from jaxdiff.components import from_json
from jaxdiff.runs.config import Config
from jaxdiff.runs.loop import train
act_at(pytest.MonkeyPatch(), int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
train(from_json(Config, json.loads(sys.argv[3])), sys.argv[4])
"""


def run_until_killed(config, run, at):
    """Trains in a process of its own, which kills itself at batch `at`."""
    arguments = [str(Path(__file__).parents[1]), str(at), json.dumps(to_json(config)), str(run)]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr


@pytest.fixture
def default_signals():
    """SIGINT and SIGTERM as Python handles them by default, whatever the process that started the tests has set."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        assert signal.signal(number, handler) is wanted[number]


def interrupt_twice():
    os.kill(os.getpid(), signal.SIGINT)
    # Batches are read in a thread. Once the main thread has seen the first signal, the second has Python's handler.
    while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        time.sleep(0.0001)
    os.kill(os.getpid(), signal.SIGINT)


def test_killed_and_interrupted_at_random_steps_it_comes_to_the_same_bits(
    toy, tmp_path, monkeypatch, capsys, default_signals
):
    """One run is ended by SIGKILL, by Ctrl-C twice (at once), by Ctrl-C and by SIGTERM (saved), and then finished."""
    moments, run = random.Random(9), tmp_path / "run"
    at = moments.randrange(81, 120)  # the save of step 80 begins when the save of step 40 is done
    run_until_killed(TOY, run, at)
    newest = max(steps(run))
    assert newest in (40, 80)
    assert len(metrics(run)) < 14

    for action, status, words in (
        (interrupt_twice, 130, "error: interrupted"),
        (lambda: os.kill(os.getpid(), signal.SIGINT), 130, "error: interrupted"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "error: terminated by SIGTERM"),
    ):
        at = newest + moments.randrange(4, 40)
        with monkeypatch.context() as patch:
            act_at(patch, at, action)
            with pytest.raises(SystemExit) as stop, command_line.reporting_errors():
                train(TOY, run)
        assert stop.value.code == status
        assert capsys.readouterr().err.splitlines()[-1].startswith(words)
        if action is interrupt_twice:
            assert max(steps(run)) == newest
        else:
            newest = max(steps(run))
            assert at - 3 <= newest <= at

    train(TOY, run)
    assert len(metrics(run)) == 14
    assert_same_run(run, toy)
    # A finished run only draws its picture again.
    (run / "samples" / "final.png").unlink()
    train(TOY, run)
    assert_same_run(run, toy)


def test_an_interrupted_u_net_on_digits_comes_to_the_same_bits(tmp_path, monkeypatch):
    """With an augmentation, dropout, and samples between."""

    class Interrupted(Exception):
        pass

    def interrupt():
        raise Interrupted

    network = UNet(channels=4, multipliers=(1,), num_blocks=0, attention_levels=(), mid_attention=False, dropout=0.1)
    config = Config(
        data=Digits(),
        augmentations=(Flip(),),
        model=Diffusion(network=network, conditions={"label": Label()}),
        train=TrainConfig(20, 8, log_every=3, checkpoint_every=7, sample_every=10),
        sample=Sampling(steps=2),
    )
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        act_at(patch, random.Random(3).randrange(9, 21), interrupt)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run")
    assert steps(tmp_path / "run")[0] == 7
    train(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == ["final.png", "samples_00000010.png", "samples_00000020.png"]


def test_at_a_constant_rate_a_run_may_be_made_longer(toy, tmp_path):
    """And be resumed with the set on the device, with another number of kept checkpoints, and with other samples."""
    run = tmp_path / "run"
    train(replaced(TOY, train__steps=90, sample__steps=2), run)
    train(replaced(TOY, train__keep=2, loading__placement="device"), run)
    assert_same_run(run, toy)
    assert read_config(open_run(run))["config"]["train"]["steps"] == TOY.train.steps
    before = contents(run)
    with pytest.raises(ValueError, match=r"train\.steps = 90; allowed are integers of at least 210") as error:
        train(replaced(TOY, train__steps=90), run)
    assert "\n" not in str(error.value)
    assert contents(run) == before


def test_a_run_that_was_moved_while_it_was_trained_stops_and_goes_on_in_its_new_place(toy, tmp_path, monkeypatch):
    run, moved = tmp_path / "run", tmp_path / "moved"

    def move():
        while not (run / "checkpoints" / "40").exists():
            time.sleep(0.01)
        run.rename(moved)

    with monkeypatch.context() as patch:
        act_at(patch, 60, move)
        with pytest.raises(ValueError, match="run: was moved, deleted or taken over while it was trained"):
            train(TOY, run)
    assert not run.exists()
    train(TOY, moved)
    assert_same_run(moved, toy)


def test_a_run_with_other_settings_or_other_data_is_left_as_it_is(toy):
    before = contents(toy)
    for settings, words in (
        ({"train__seed": 1}, r"train\.seed was 0, is 1"),
        ({"model__conditions": {}}, r"model\.conditions"),
        ({"data__seed": 1}, r"data\.seed was 0, is 1"),
        ({"train__batch_size": 2001}, "batch_size = 2001"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            train(replaced(TOY, **settings), toy)
        assert "\n" not in str(error.value)
    assert contents(toy) == before


def test_showing_never_ends_a_run(tmp_path):
    """Neither an error of the data set that shows samples, nor a name that no file can have."""
    for kind, words in ((Broken, "step 4 cannot be shown: KeyError: 'nothing to see'"), (Misnamed, "step 4 cannot be")):
        config = replaced(TOY, data=kind("gaussians", n=2000), train__steps=6, train__sample_every=4)
        with pytest.warns(UserWarning, match="cannot be shown") as caught:
            train(config, tmp_path / kind.__name__)
        said = [str(one.message) for one in caught if "cannot be shown" in str(one.message)]
        assert [one[:6] for one in said] == ["step 4", "step 6"]
        assert said[0].startswith(words)
        assert steps(tmp_path / kind.__name__) == [6]
        assert not list((tmp_path / kind.__name__ / "samples").iterdir())


def test_a_data_set_shows_samples_in_its_own_way(tmp_path):
    """With the names of the classes that were asked for."""
    train(replaced(TOY, data=Told("gaussians", n=2000), train__steps=6, train__sample_every=4), tmp_path)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["final.txt", "samples_00000004.txt"]
    assert (tmp_path / "samples" / "final.txt").read_text() == "2000 gaussians 0 gaussians 7"


def test_conditions_can_be_left_out():
    """The data still have labels, and a batch has none."""
    config = replaced(TOY, model__conditions={})
    frozen = load_frozen(config, lambda path: None)
    training = make_training(config, config.data.open().fields, frozen)
    assert set(training.batch(4)) == {"x"}
    assert training.bound.network.specs == ()


def test_a_run_draws_the_same_whatever_the_default_generator():
    """With `rbg`, `vmap` over keys draws all numbers from the first key: examples would depend on their batch."""
    frozen = load_frozen(TOY, lambda path: None)
    training = make_training(TOY, TOY.data.open().fields, frozen)
    with jax.default_prng_impl("rbg"):
        state = jax.jit(training.initial)(frozen)
        a, b = (jax.vmap(jax.random.normal)(jax.random.split(jax.random.key(0), 3)[i:]) for i in (0, 1))
        assert not np.array_equal(a[1:], b)
    wanted = jax.jit(training.initial)(frozen)
    assert state.key.dtype == wanted.key.dtype
    jax.tree.map(
        np.testing.assert_array_equal,
        (state.params, jax.random.key_data(state.key)),
        (wanted.params, jax.random.key_data(wanted.key)),
    )


def damage(checkpoint):
    """Changes one bit of the averages in a checkpoint."""
    files = (path for path in (checkpoint / "state" / "part.ema").rglob("*") if path.is_file())
    path = max(files, key=lambda path: path.stat().st_size)
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)


def test_a_corrupt_checkpoint_is_passed_over_and_made_again(toy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(toy, run)
    older = jd.load(run, step=200)
    damage(run / "checkpoints" / "210")
    with pytest.warns(UserWarning, match="210 is broken .*going back to step 200"):
        found = jd.load(run)
    jax.tree.map(np.testing.assert_array_equal, found.params, older.params)
    with pytest.raises(CheckpointError, match="is broken"):
        jd.load(run, step=210)
    with pytest.warns(UserWarning, match="210 is broken .*going back to step 200"):
        train(TOY, run)
    assert_same_run(run, toy)
    assert (run / "checkpoints" / "210.broken").is_dir()

    for step in ("160", "200", "210"):
        damage(run / "checkpoints" / step)
    before = contents(run / "checkpoints")
    for attempt in (lambda: train(TOY, run), lambda: jd.load(run)):
        with pytest.raises(CheckpointError, match="all checkpoints are broken") as error:
            attempt()
        assert "\n" not in str(error.value)
    assert contents(run / "checkpoints") == before


@pytest.mark.parametrize(
    "position",
    [
        None,
        {"window": []},
        {"window": 3, "loss": None, "validation": None},
        {"window": [{"loss": 1.0}], "loss": None, "validation": None},
        {"window": [{"loss": "x", "skipped": 0, "consecutive_skips": 0}], "loss": None, "validation": None},
        {"window": [], "loss": "low", "validation": None},
    ],
)
def test_a_malformed_place_in_the_metrics_is_refused(position):
    with pytest.raises(ValueError, match=r"metrics since the last line = .*; allowed are numbers by the names"):
        Window.from_json(position)


def test_a_failed_snapshot_stops_nothing_and_no_snapshot_is_made_twice(tmp_path, monkeypatch):
    config = replaced(
        TOY,
        train__steps=40,
        train__log_every=20,
        train__checkpoint_every=20,
        train__ema_widths=(0.1,),
        train__snapshot_every=10,
    )
    snapshots = tmp_path / "snapshots"

    def commit(temporary, table, described, commit=saving._commit):
        if temporary.parent == snapshots and described["step"] == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        commit(temporary, table, described)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_commit", commit)
        with pytest.warns(UserWarning, match="saving step 20 failed.*training goes on"):
            train(config, tmp_path)
    assert {path.name for path in snapshots.iterdir()} == {"10", "30", "40"}
    # After a kill before the last checkpoint, the resumed run takes snapshots at other steps among the old ones.
    shutil.rmtree(tmp_path / "checkpoints" / "40")
    before = contents(snapshots)
    train(replaced(config, train__steps=48, train__snapshot_every=8), tmp_path)
    assert final_state(tmp_path)[0] == 48
    assert {path.name for path in snapshots.iterdir()} == {"10", "30", "40", "48"}
    assert before.items() <= contents(snapshots).items()


def test_a_skipped_step_is_counted_and_left_out_of_the_means(tmp_path, monkeypatch):
    def poison(number, batch):
        return {**batch, "x": batch["x"] * np.nan} if number == 3 or number > 4 else batch

    change_batches(monkeypatch, poison)
    for every in (1, 4):
        train(replaced(TOY, train__steps=4, train__log_every=every, train__checkpoint_every=4), tmp_path / str(every))
    lines, (line,) = metrics(tmp_path / "1"), metrics(tmp_path / "4")
    assert [one["skipped"] for one in lines] == [0, 0, 1, 0]
    assert lines.pop(2)["loss"] is None
    means = {name: np.mean([one[name] for one in lines]) for name in ("loss", "mse", "grad_norm")}
    assert line == {"step": 4, "skipped": 1, **means}
    # The best checkpoints are chosen by this number.
    meta = json.loads((tmp_path / "4" / "checkpoints" / "4" / "meta.json").read_text())
    assert meta["metric"] == means["loss"]

    diverging = replaced(TOY, train__steps=12, train__log_every=2, optimizer__max_skipped=3)
    with pytest.raises(DivergedError, match=r"not finite in 3 consecutive steps .* by step 8"):
        train(diverging, tmp_path / "diverged")
    assert [one["skipped"] for one in metrics(tmp_path / "diverged")] == [0, 1, 2, 2]
