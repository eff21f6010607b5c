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
import jax.numpy as jnp
import numpy as np
import pytest
from run_settings import contents, replaced

import jaxdiff as jd
from jaxdiff import data
from jaxdiff.cli import command_line
from jaxdiff.networks import MLP, UNet
from jaxdiff.parametrizations import Estimate
from jaxdiff.runs import loop, program, recipe
from jaxdiff.runs.checkpoints import CheckpointError, Checkpoints, saving
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, OptimizerConfig, SampleConfig, TrainConfig
from jaxdiff.runs.config_json import to_json
from jaxdiff.runs.directory import create_run, open_run, read_config, write_config
from jaxdiff.runs.loop import train
from jaxdiff.runs.trainer import DivergedError

ROOT = Path(__file__).parents[2]

# The periods of logs and checkpoints differ, so that a checkpoint also holds metrics that have no line yet.
TOY = Config(
    data=DataConfig("gaussians"),
    diffusion=DiffusionConfig(process="flow", parametrization="velocity"),
    network=MLP(width=16, num_blocks=1, dropout=0.1),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=10),
    train=TrainConfig(210, 32, log_every=15, checkpoint_every=40, sample_every=0, ema_half_life=500),
    sample=SampleConfig("ddim", steps=3),
)

RATES = {"time", "images_per_second", "data_wait"}  # these differ between any two runs


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Runs in this process share a compiled step, and processes started from here share a compilation cache.

    The step depends neither on the periods of reports nor, at a constant learning rate, on the length of the run.
    """
    programs = {}

    def shared(config, spec):
        settings = to_json(config)
        for name in ("steps", "log_every", "sample_every", "checkpoint_every", "snapshot_every", "keep"):
            del settings["train"][name]
        del settings["optimizer"]["max_skipped"]
        assert config.optimizer.schedule == "constant"
        key = json.dumps(settings)
        if key not in programs:
            programs[key] = program.make_program(config, spec)
        return programs[key]

    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_program", shared)
        for name, value in options.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A run without interruption."""
    run = tmp_path_factory.mktemp("runs") / "toy"
    train(TOY, run)
    return run


def steps(run):
    with Checkpoints(run / "checkpoints") as checkpoints:
        return checkpoints.steps()


def final_state(run):
    """`(step, name -> array)` of the last checkpoint, with everything that it holds."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        step, parts, _ = checkpoints.restore_parts()
    assert set(parts) == {"params", "opt_state", "ema", "step", "key", "skipped", "consecutive_skips"}
    parts["key"] = jax.random.key_data(parts["key"])
    return step, {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(parts)}


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in RATES} for line in lines]


def assert_same_run(run, reference):
    (step, state), (wanted_step, wanted) = final_state(run), final_state(reference)
    assert step == wanted_step
    assert list(state) == list(wanted)
    for name, leaf in state.items():
        assert leaf.dtype == wanted[name].dtype, name
        assert leaf.tobytes() == wanted[name].tobytes(), name
    assert metrics(run) == metrics(reference)
    assert (run / "samples" / "final.png").read_bytes() == (reference / "samples" / "final.png").read_bytes()


class Changed:
    """Batches with a function applied to each: `change(number, batch)`, where the first batch of a run is number 1."""

    def __init__(self, batches, change):
        self.batches, self.change = batches, change

    def __next__(self):
        number = self.batches.get_state()["next"] + 1
        return self.change(number, next(self.batches))

    def __getattr__(self, name):
        return getattr(self.batches, name)


def change_batches(monkeypatch, change):
    make = data.training_batches
    monkeypatch.setattr(data, "training_batches", lambda *args, **options: Changed(make(*args, **options), change))


def act_at(monkeypatch, at, action):
    """Calls `action` when batch `at` is read. The loop reads at most three batches ahead of the step."""

    def change(number, batch):
        if number == at:
            action()
        return batch

    change_batches(monkeypatch, change)


KILLED = """
import json, os, signal, sys
import pytest
sys.path[:0] = sys.argv[1:3]
from test_runs_loop import act_at
from jaxdiff.runs.config_json import from_json
from jaxdiff.runs.loop import train
act_at(pytest.MonkeyPatch(), int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGKILL))
train(from_json(json.loads(sys.argv[4])), sys.argv[5])
"""


def run_until_killed(config, run, at):
    """Trains in a process of its own, which kills itself at batch `at`."""
    here = Path(__file__).parent
    arguments = [str(here), str(here.parent), str(at), json.dumps(to_json(config)), str(run)]
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
    assert train(TOY, run).step == TOY.train.steps
    assert_same_run(run, toy)


def test_an_interrupted_u_net_on_digits_comes_to_the_same_bits(tmp_path, monkeypatch):
    class Interrupted(Exception):
        pass

    def interrupt():
        raise Interrupted

    config = Config(
        data=DataConfig("digits"),
        network=UNet(channels=4, multipliers=(1,), num_blocks=0, attention_levels=(), mid_attention=False, dropout=0.1),
        train=TrainConfig(20, 8, log_every=3, checkpoint_every=7, sample_every=10),
        sample=SampleConfig("ddim", steps=2),
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
    run = tmp_path / "run"
    train(replaced(TOY, train__steps=90), run)
    train(replaced(TOY, train__keep=2), run)
    assert_same_run(run, toy)
    assert read_config(open_run(run))["config"]["train"]["steps"] == TOY.train.steps
    before = contents(run)
    with pytest.raises(ValueError, match=r"train\.steps = 90; allowed are integers of at least 210") as error:
        train(replaced(TOY, train__steps=90), run)
    assert "\n" not in str(error.value)
    assert contents(run) == before


def test_a_run_with_other_settings_is_left_as_it_is(toy):
    before = contents(toy)
    with pytest.raises(ValueError, match=r"train\.seed was 0, is 1"):
        train(replaced(TOY, train__seed=1), toy)
    with pytest.raises(ValueError, match="num_classes was 8, is 0"):
        train(replaced(TOY, diffusion__conditional=False), toy)
    assert contents(toy) == before


def test_labels_can_be_left_out():
    """The data still have labels, and the network has no place for them."""
    config = replaced(TOY, diffusion__conditional=False)
    opened = recipe.open_data(config.data)
    spec = recipe.describe_data(config, opened)
    assert (spec.num_classes, spec.class_names) == (0, ())
    step, initialise = recipe.make_training(config, spec)
    batch = next(data.training_batches(opened, 4, seed=0))
    assert "cond" in batch
    before = jax.eval_shape(initialise)
    after, _ = jax.eval_shape(step, before, batch)
    assert jax.tree.structure(after) == jax.tree.structure(before)


def test_a_run_draws_the_same_whatever_the_default_generator():
    """With `rbg`, `vmap` over keys draws all numbers from the first key: examples would depend on their batch."""
    _, initialise = recipe.make_training(TOY, recipe.describe_data(TOY, recipe.open_data(TOY.data)))
    with jax.default_prng_impl("rbg"):
        state = jax.jit(initialise)()
        a, b = (jax.vmap(jax.random.normal)(jax.random.split(jax.random.key(0), 3)[i:]) for i in (0, 1))
        assert not np.array_equal(a[1:], b)
    wanted = jax.jit(initialise)()
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
    damage(run / "checkpoints" / "210")
    with pytest.warns(UserWarning, match="210 is broken .*going back to step 200"):
        assert jd.load(run).step == 200
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

    def commit(temporary, described, commit=saving._commit):
        if temporary.parent == snapshots and described["step"] == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        commit(temporary, described)

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


def test_load_takes_the_average_and_not_the_last_parameters(toy):
    _, saved = final_state(toy)
    averaged, raw = jd.load(toy), jd.load(toy, ema=None)
    for part, model in (("['ema']['ema']", averaged), ("['params']", raw)):
        leaves = jax.tree_util.tree_leaves_with_path(model.params)
        assert len(leaves) == sum(name.startswith(part) for name in saved)
        for path, leaf in leaves:
            np.testing.assert_array_equal(leaf, saved[part + jax.tree_util.keystr(path)])
    assert any(
        not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (averaged.params, raw.params)), strict=True)
    )
    assert (averaged.shape, averaged.num_classes, averaged.step, averaged.config) == ((2,), 8, 210, TOY)
    assert averaged.class_names[3] == "gaussians 3"
    assert averaged.apply == raw.apply  # so that a program compiled for one model serves the other
    assert jd.load(toy, step=160).step == 160


def test_the_denoiser_is_the_networks_answer_with_its_label_and_guidance(toy):
    """By hand: the flow's velocity is eps - x0, so that x0 = x - t F and eps = x + (1 - t) F."""
    model = jd.load(toy)
    x, t = jax.random.normal(jax.random.key(0), (5, 2)), jnp.linspace(0.2, 0.9, 5)
    labels = np.array([0, 7, 3, 3, 1])
    apply = jax.jit(TOY.network.clone(num_classes=8).apply)

    def by_hand(cond):
        output = apply(model.params, x, model.parametrization.time_input(model.process, t), jnp.asarray(cond))
        return Estimate(x - t[:, None] * output, x + (1 - t)[:, None] * output)

    null = by_hand(np.full(5, 8))
    cond = by_hand(labels)
    guided = jax.tree.map(lambda u, c: u + 2.5 * (c - u), null, cond)
    cases = [
        (model.denoiser(), null),
        (model.denoiser(guidance_scale=0.0), null),
        (model.denoiser(labels), cond),
        (model.denoiser(3), by_hand(np.full(5, 3))),
        (model.denoiser(labels, 0.0), null),
        (model.denoiser(labels, 2.5), guided),
    ]
    assert not np.allclose(null.x0, cond.x0, atol=1e-3)
    called = jax.jit(lambda denoiser: denoiser(x, t))
    for denoiser, expected in cases:
        found = called(denoiser)
        np.testing.assert_allclose(found.x0, expected.x0, atol=1e-5)
        np.testing.assert_allclose(found.eps, expected.eps, atol=1e-5)


def test_a_run_that_cannot_be_loaded_is_refused_in_one_line(toy, tmp_path):
    saved = json.loads((toy / "config.json").read_text())
    misspelt = json.loads(json.dumps(saved))
    misspelt["config"]["train"]["ema_half_lifes"] = 3
    unfit = json.loads(json.dumps(saved))
    unfit["config"]["sample"]["grid"] = "karras"
    for name, text in (("newer", json.dumps(misspelt)), ("unfit", json.dumps(unfit))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    write_config(create_run(tmp_path / "fresh"), saved)
    write_config(create_run(tmp_path / "factless"), {**saved, "data": {}})
    cases = [
        (tmp_path / "none", {}, "there is no such directory"),
        (tmp_path, {}, "holds no config"),
        (tmp_path / "newer", {}, r"config\.json: unknown setting ema_half_lifes; did you mean 'ema_half_life'\?"),
        (tmp_path / "unfit", {}, r"config\.json: .*sigma_max = inf"),
        (tmp_path / "factless", {}, r"config\.json: data: missing value for field \"shape\""),
        (tmp_path / "fresh", {}, "has no checkpoint"),
        (toy, {"ema": "slow"}, r"ema = 'slow'; allowed are 'ema'"),
        (toy, {"step": 7}, "160, 200, 210"),
    ]
    for run, options, words in cases:
        with pytest.raises(ValueError, match=words) as error:
            jd.load(run, **options)
        assert "\n" not in str(error.value)
