"""Runs: interrupted anywhere they come to the same bits; they load as what they are; what is on disk is never harmed."""

import dataclasses
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

import jaxdiff as jd
from jaxdiff import data
from jaxdiff.cli import command_line
from jaxdiff.networks import MLP, UNet
from jaxdiff.parametrizations import Estimate
from jaxdiff.runs import draw, recipe
from jaxdiff.runs.checkpoints import CheckpointError, Checkpoints, saving
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, OptimizerConfig, SampleConfig, TrainConfig
from jaxdiff.runs.config_json import to_json
from jaxdiff.runs.directory import create_run, open_run, read_config, write_config
from jaxdiff.runs.load import LabelledApply, Model
from jaxdiff.runs.loop import train

ROOT = Path(__file__).parents[2]

# Neither lines of metrics nor checkpoints end together: what is under way between them must survive as well.
TOY = Config(
    data=DataConfig("gaussians"),
    diffusion=DiffusionConfig(process="flow", parametrization="velocity"),
    network=MLP(width=16, num_blocks=1, dropout=0.1),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=10),
    train=TrainConfig(210, 32, log_every=15, checkpoint_every=40, sample_every=0, ema_half_life=500),
    sample=SampleConfig("ddim", steps=3),
)


RATES = {"time", "images_per_second", "data_wait"}  # no two runs have these alike


def changed(config, **settings):
    """`config` with other values of `group__name`."""
    for path, value in settings.items():
        group, _, name = path.partition("__")
        part = getattr(config, group)
        part = part.clone(**{name: value}) if group == "network" else dataclasses.replace(part, **{name: value})
        config = dataclasses.replace(config, **{group: part})
    return config


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Every `train` compiles its step anew; here, and in the processes started from here, they share a cache on disk."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A whole run that nothing interrupted."""
    run = tmp_path_factory.mktemp("runs") / "toy"
    train(TOY, run)
    return run


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


def contents(run):
    """Every file of a run but its lock, with its time: nothing may write, not even the same again."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.name != "trainer.lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


class Faulty:
    """Batches that do something when number `at` is asked for, before it is given."""

    def __init__(self, batches, at, action):
        self.batches, self.at, self.action, self.number = batches, at, action, 0

    def __next__(self):
        self.number += 1
        if self.number == self.at:
            self.action()
        return next(self.batches)

    def __getattr__(self, name):
        return getattr(self.batches, name)


def with_fault(monkeypatch, at, action):
    monkeypatch.setattr(
        data, "training_batches", lambda *a, _make=data.training_batches, **k: Faulty(_make(*a, **k), at, action)
    )


KILLED = """
import json, os, signal, sys
from pathlib import Path
import pytest
sys.path.insert(0, sys.argv[1])
from test_training_run import with_fault
from jaxdiff.runs.config import from_json
from jaxdiff.runs.loop import train
with_fault(pytest.MonkeyPatch(), int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
train(from_json(json.loads(sys.argv[3])), sys.argv[4])
"""


def run_until_killed(config, run, at):
    code = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(at), json.dumps(to_json(config)), str(run)]
    process = subprocess.run(
        code, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == -signal.SIGKILL, process.stderr


def test_killed_at_a_random_step_it_comes_to_the_same_bits(toy, tmp_path):
    at = random.randrange(81, TOY.train.steps)  # the checkpoint of step 80 begins when that of step 40 is done
    print("killed in step", at)
    run = tmp_path / "run"
    run_until_killed(TOY, run, at)
    lines = len(metrics(run))
    with Checkpoints(run / "checkpoints") as checkpoints:
        assert 0 < max(checkpoints.steps()) < at
    train(TOY, run)
    assert len(metrics(run)) == 14 > lines
    assert_same_run(run, toy)
    # And a run that is over does nothing but draw its picture.
    before = final_state(run)[1]
    assert train(TOY, run).step == TOY.train.steps
    assert all(np.array_equal(leaf, before[name]) for name, leaf in final_state(run)[1].items())
    assert_same_run(run, toy)


def test_a_killed_u_net_on_digits_comes_to_the_same_bits(tmp_path):
    data.prepare_digits(tmp_path / "data")
    config = Config(
        data=DataConfig("digits", data_dir=str(tmp_path / "data")),
        network=UNet(channels=8, multipliers=(1,), num_blocks=1, attention_levels=(), mid_attention=False),
        train=TrainConfig(20, 8, log_every=3, checkpoint_every=7, sample_every=10),
        sample=SampleConfig("ddim", steps=2),
    )
    train(config, tmp_path / "whole")
    at = random.randrange(2, 21)
    print("killed in step", at)
    run_until_killed(config, tmp_path / "run", at)
    # The data may have moved meanwhile.
    (tmp_path / "data").rename(tmp_path / "moved")
    train(changed(config, data__data_dir=str(tmp_path / "moved")), tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == ["final.png", "samples_00000010.png", "samples_00000020.png"]


@pytest.fixture
def keyboard():
    """Ctrl-C as Python has it, whatever whoever started the tests has made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


@pytest.mark.parametrize("times", [1, 2])
def test_interrupted_from_the_keyboard_it_saves_and_goes_on(toy, tmp_path, monkeypatch, capsys, keyboard, times):
    """Once: the step under way is finished and saved. Twice: it goes at once, from its last checkpoint."""
    at, run = random.randrange(44, 80), tmp_path / "run"
    print("interrupted in step", at)
    capsys.readouterr()
    with monkeypatch.context() as patch:

        def interrupt():
            keyboard()
            # Batches are made in a thread; once the main one has seen the first signal, the second is Python's own.
            while times == 2 and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                time.sleep(0.0001)
            if times == 2:
                keyboard()

        with_fault(patch, at, interrupt)
        with pytest.raises(SystemExit) as stop, command_line.reporting_errors():
            train(TOY, run)
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted"
    with Checkpoints(run / "checkpoints") as checkpoints:
        # Batches are asked for up to three steps before they are needed.
        assert max(checkpoints.steps()) in (range(at - 3, at + 1) if times == 1 else [40])
    train(TOY, run)
    assert_same_run(run, toy)


def test_at_a_constant_rate_a_run_may_be_made_longer(toy, tmp_path):
    run = tmp_path / "run"
    train(changed(TOY, train__steps=90), run)
    before = contents(run)
    train(changed(TOY, train__log_every=15, train__keep=2), run)
    assert_same_run(run, toy)
    assert read_config(open_run(run))["config"]["train"]["steps"] == TOY.train.steps
    assert before != contents(run)
    before = contents(run)
    with pytest.raises(ValueError, match=r"train\.steps = 90; .* has 210 already") as error:
        train(changed(TOY, train__steps=90), run)
    assert "\n" not in str(error.value)
    assert contents(run) == before


def test_a_cosine_belongs_to_one_length(tmp_path):
    """Of a longer run, the steps made already would have had other rates: refused, and nothing touched."""
    config = changed(TOY, train__steps=10, optimizer__schedule="cosine")
    train(config, tmp_path)
    before = contents(tmp_path)
    for steps in (9, 11):
        with pytest.raises(ValueError, match=rf"train\.steps was 10, is {steps}; choose another directory"):
            train(changed(config, train__steps=steps), tmp_path)
    assert contents(tmp_path) == before
    train(changed(config, train__log_every=1), tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"network__width": 24}, ["network.width was 16, is 24"]),
        ({"optimizer__learning_rate": 1e-3}, ["optimizer.learning_rate was 0.002, is 0.001"]),
        ({"train__seed": 1}, ["train.seed was 0, is 1"]),
        (
            {"train__batch_size": 64, "diffusion__times": "uniform"},
            ["train.batch_size", "diffusion.times was stratified"],
        ),
        ({"diffusion__conditional": False}, ["diffusion.conditional was True, is False", "num_classes was 8, is 0"]),
        ({"data__name": "moons"}, ["data.name was gaussians, is moons", "num_classes was 8, is 2"]),
        ({"diffusion__process_options": {}, "diffusion__weighting": "x0"}, ["diffusion.weighting was output, is x0"]),
    ],
)
def test_other_settings_are_refused_by_name(toy, settings, named):
    before = contents(toy)
    with pytest.raises(ValueError, match="holds a run with other settings") as error:
        train(changed(TOY, **settings), toy)
    assert contents(toy) == before
    assert "\n" not in str(error.value)
    for words in named:
        assert words in str(error.value)


def test_labels_can_be_left_out():
    """The data still have them; the network has no place for them."""
    config = changed(TOY, diffusion__conditional=False)
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
    """`rbg`, mapped over keys, draws all numbers by the first: what an example is given would depend on its batch."""
    _, initialise = recipe.make_training(TOY, recipe.describe_data(TOY, recipe.open_data(TOY.data)))
    with jax.default_prng_impl("rbg"):
        state = initialise()
        a, b = (jax.vmap(jax.random.normal)(jax.random.split(jax.random.key(0), 3)[i:]) for i in (0, 1))
        assert not np.array_equal(a[1:], b)
    wanted = initialise()
    assert state.key.dtype == wanted.key.dtype
    jax.tree.map(
        np.testing.assert_array_equal,
        (state.params, jax.random.key_data(state.key)),
        (wanted.params, jax.random.key_data(wanted.key)),
    )


def damage(checkpoint):
    path = max((p for p in (checkpoint / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def test_a_corrupt_checkpoint_is_passed_over_and_made_again(toy, tmp_path):
    run = tmp_path / "run"
    train(TOY, run)
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
        with pytest.raises(CheckpointError, match="no checkpoint is whole") as error:
            attempt()
        assert "\n" not in str(error.value)
    assert contents(run / "checkpoints") == before


def test_a_snapshot_that_fails_stops_nothing_and_none_is_made_twice(tmp_path, monkeypatch):
    config = changed(
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
    # Killed before the last checkpoint and gone on with, snapshots at other steps lie between those that are there.
    shutil.rmtree(tmp_path / "checkpoints" / "40")
    before = contents(snapshots)
    train(changed(config, train__steps=48, train__snapshot_every=8), tmp_path)
    assert final_state(tmp_path)[0] == 48
    assert {path.name for path in snapshots.iterdir()} == {"10", "30", "40", "48"}
    assert before.items() <= contents(snapshots).items()


def test_a_skipped_step_is_counted_and_left_out_of_the_means(tmp_path, monkeypatch):
    class Poisoned:
        """Batches of which the third is not finite."""

        def __init__(self, batches):
            self.batches = batches

        def __next__(self):
            number, batch = self.batches.get_state()["next"], next(self.batches)
            return {**batch, "x": batch["x"] * np.nan} if number == 2 else batch

        def __getattr__(self, name):
            return getattr(self.batches, name)

    monkeypatch.setattr(data, "training_batches", lambda *a, _make=data.training_batches, **k: Poisoned(_make(*a, **k)))
    for every in (1, 4):
        train(changed(TOY, train__steps=4, train__log_every=every, train__checkpoint_every=4), tmp_path / str(every))
    lines, (line,) = metrics(tmp_path / "1"), metrics(tmp_path / "4")
    assert [one["skipped"] for one in lines] == [0, 0, 1, 0]
    assert lines.pop(2)["loss"] is None
    means = {name: np.mean([one[name] for one in lines]) for name in ("loss", "mse", "grad_norm")}
    assert line == {"step": 4, "skipped": 1, **means}
    # By which the best checkpoints are chosen.
    meta = json.loads((tmp_path / "4" / "checkpoints" / "4" / "meta.json").read_text())
    assert meta["metric"] == means["loss"]


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
    assert jd.load(toy, step=160).step == 160


def test_the_denoiser_is_the_networks_answer_with_its_label_and_guidance(toy):
    """By hand: the flow's velocity is eps - x0, so that x0 = x - t F and eps = x + (1 - t) F."""
    model = jd.load(toy)
    x, t = jax.random.normal(jax.random.key(0), (5, 2)), jnp.linspace(0.2, 0.9, 5)
    labels = np.array([0, 7, 3, 3, 1])
    network = TOY.network.clone(num_classes=8)

    def by_hand(cond):
        output = network.apply(model.params, x, model.parametrization.time_input(model.process, t), jnp.asarray(cond))
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
    for denoiser, expected in cases:
        found = denoiser(x, t)
        np.testing.assert_allclose(found.x0, expected.x0, atol=1e-5)
        np.testing.assert_allclose(found.eps, expected.eps, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((8,), r"label = 8; allowed are integers from 0 to 7"),
        ((-1,), "label = -1"),
        ((2.0,), r"label = 2\.0"),
        (([[1, 2]],), "label = "),
        (([1, 9],), r"label = \[1, 9\]"),
        ((None, 2.0), r"guidance_scale = 2\.0 needs a label"),
    ],
)
def test_labels_that_the_model_lacks_are_refused(toy, arguments, words):
    with pytest.raises(ValueError, match=words):
        jd.load(toy).denoiser(*arguments)


def test_a_model_without_labels(tmp_path):
    config = changed(TOY, data__name="checkerboard", train__steps=2)
    train(config, tmp_path)
    model = jd.load(tmp_path)
    assert (model.num_classes, model.class_names, model.shape) == (0, (), (2,))
    assert model.denoiser()(jnp.zeros((3, 2)), 0.5).x0.shape == (3, 2)
    assert draw.draw(model, jax.random.key(0), None, config.sample, count=3).shape == (3, 2)
    for arguments in ((1,), (None, 2.0)):
        with pytest.raises(ValueError, match="the model has no classes"):
            model.denoiser(*arguments)


def test_what_cannot_be_loaded_is_one_line(toy, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"model": "other"}')
    (tmp_path / "newer").mkdir()
    saved = json.loads((toy / "config.json").read_text())
    saved["config"]["train"]["ema_half_lifes"] = 3
    (tmp_path / "newer" / "config.json").write_text(json.dumps(saved))
    fresh = create_run(tmp_path / "fresh")
    write_config(fresh, {"config": to_json(TOY), "data": {}})
    cases = [
        (tmp_path / "none", {}, "there is no such directory"),
        (tmp_path, {}, "holds no config"),
        (tmp_path / "foreign", {}, r"config\.json: is not the configuration of a run"),
        (tmp_path / "newer", {}, r"config\.json: unknown setting ema_half_lifes; did you mean ema_half_life\?"),
        (tmp_path / "fresh", {}, "holds no checkpoint"),
        (toy, {"ema": "slow"}, r"ema = 'slow'; the run has ema"),
        (toy, {"step": 7}, "has no checkpoint of step 7; there are: 160, 200, 210"),
    ]
    for run, options, words in cases:
        with pytest.raises(ValueError, match=words) as error:
            jd.load(run, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="is not the configuration of a run"):
        train(TOY, tmp_path / "foreign")
    assert os.listdir(tmp_path / "foreign") == ["config.json"]


@dataclasses.dataclass(frozen=True)
class Towards:
    """A network that is certain that every example is its label, divided by the number of classes."""

    def __call__(self, params, x, label, cond=None):
        return jnp.zeros_like(x) if cond is None else jnp.broadcast_to(cond[:, None] / params, x.shape)


def known_model(num_classes=4):
    process = jd.processes.vp_cosine()
    names = tuple("abcd"[:num_classes])
    return Model(process, jd.parametrizations.x0(), LabelledApply(Towards()), 4.0, (3,), num_classes, names, 0, TOY)


def test_a_drawn_sample_is_a_matter_of_its_key_place_and_label():
    model, key, labels = known_model(), jax.random.key(0), np.arange(23) % 4
    model = dataclasses.replace(model, apply=lambda params, x, label, cond=None: 0.5 * x + cond[:, None] / params)
    config = SampleConfig("ddpm", steps=5)
    whole = draw.draw(model, key, labels, config)
    assert whole.shape == (23, 3)
    assert len(np.unique(whole)) == 69
    for batch_size in (1, 7, 64):
        np.testing.assert_array_equal(draw.draw(model, key, labels, config, batch_size=batch_size), whole)
    np.testing.assert_array_equal(draw.draw(model, key, labels[:5], config), whole[:5])
    other = np.where(np.arange(23) == 2, (labels + 1) % 4, labels)
    assert np.flatnonzero(np.any(draw.draw(model, key, other, config) != whole, axis=1)).tolist() == [2]


def test_labels_and_guidance_are_what_is_drawn():
    """The last step of DDIM ends in the estimate itself: label/4, or with guidance s from the null label 4/4."""
    model, labels = known_model(), np.array([3, 0, 1, 1, 2])
    for scale in (1.0, 0.0, 3.0):
        samples = draw.draw(model, jax.random.key(1), labels, SampleConfig(steps=3, guidance=scale))
        expected = np.repeat(1 + scale * (labels / 4 - 1)[:, None], 3, axis=1)
        np.testing.assert_allclose(samples, expected, atol=0.02)
    nothing = draw.draw(known_model(0), jax.random.key(1), None, SampleConfig(steps=3), count=4)
    np.testing.assert_allclose(nothing, np.zeros((4, 3)), atol=0.02)


@pytest.mark.parametrize(("labels", "options"), [(None, {}), (None, {"count": 0}), (np.zeros(0, int), {})])
def test_nothing_cannot_be_drawn(labels, options):
    with pytest.raises(ValueError, match="count = "):
        draw.draw(known_model(), jax.random.key(0), labels, SampleConfig(), **options)
