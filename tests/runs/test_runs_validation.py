"""Validation on examples that training never sees, the best checkpoints, and runs that begin with those of another."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from run_files import change_batches, final_state, metrics, steps
from run_settings import TOY, contents, replaced

import jaxdiff as jd
from jaxdiff import averages, data
from jaxdiff.data import Dataset, Toy
from jaxdiff.objectives import Denoising, Loss, Objective
from jaxdiff.runs import loop
from jaxdiff.runs.loop import train
from jaxdiff.runs.validation import Validation

pytestmark = pytest.mark.usefixtures("compiled_once")

HELD_OUT = replaced(
    TOY,
    train__steps=36,
    train__log_every=5,
    train__checkpoint_every=9,
    train__held_out=64,
    train__validate_every=9,
    train__keep=1,
    train__keep_best=1,
)


@pytest.fixture(scope="module")
def validated(tmp_path_factory, compiled_once):
    """A run with validation. No test changes it."""
    run = tmp_path_factory.mktemp("runs") / "validated"
    train(HELD_OUT, run)
    return run


def losses_of_validation(run):
    return {line["step"]: line["validation_loss"] for line in metrics(run) if "validation_loss" in line}


def test_validation_has_lines_of_its_own_and_chooses_the_best_checkpoint(validated):
    assert [line["step"] for line in metrics(validated)] == [5, 9, 10, 15, 18, 20, 25, 27, 30, 35, 36]
    losses = losses_of_validation(validated)
    assert list(losses) == [9, 18, 27, 36]
    assert len({*losses.values()}) == 4
    assert {"validation_mse"} <= set(metrics(validated)[1])
    best = min(losses, key=losses.get)
    assert steps(validated) == sorted({best, 36})
    for step in steps(validated):
        meta = json.loads((validated / "checkpoints" / str(step) / "meta.json").read_text())
        assert meta["metric"] == losses[step]


def test_an_interrupted_run_is_validated_with_the_same_noise(validated, tmp_path):
    """The last line before the checkpoint had a validation; the next lines do not depend on the interruption."""
    run = tmp_path / "run"
    train(replaced(HELD_OUT, train__steps=27), run)
    train(HELD_OUT, run)
    lines, whole = metrics(run), metrics(validated)
    assert [line for line in lines if line["step"] != 27] == [line for line in whole if line["step"] != 27]
    assert losses_of_validation(run) == losses_of_validation(validated)
    (_, state), (_, wanted) = final_state(run), final_state(validated)
    assert state.keys() == wanted.keys()
    for name, leaf in state.items():
        np.testing.assert_array_equal(leaf, wanted[name])


def test_training_sees_all_examples_but_those_held_out(tmp_path, monkeypatch):
    seen = set()

    def look(number, batch):
        seen.update(map(tuple, batch["x"].tolist()))
        return batch

    change_batches(monkeypatch, look)
    points = Toy("gaussians", n=224)
    train(replaced(HELD_OUT, data=points, train__steps=9), tmp_path)
    training, held_out = data.held_out(points.open(), 64)
    assert seen == {tuple(row.tolist()) for row in training.source.columns["x"]}
    assert not seen & {tuple(row.tolist()) for row in held_out.source.columns["x"]}


def test_examples_of_validation_may_be_a_set_of_their_own(tmp_path, monkeypatch):
    """The loss is that of the averaged parameters: it is the same where only the last parameters differ."""
    given = []

    class Spied(Validation):
        def __init__(self, training, examples, *rest):
            given.append(examples)
            super().__init__(training, examples, *rest)

        def __call__(self, state):
            values = super().__call__(state)
            others = dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf + 1, state.params))
            assert super().__call__(others) == values
            return values

    monkeypatch.setattr(loop, "Validation", Spied)
    other = Toy("gaussians", n=40, seed=1)
    train(replaced(HELD_OUT, train__held_out=0, validation=other, train__steps=9), tmp_path)
    assert list(losses_of_validation(tmp_path)) == [9]
    np.testing.assert_array_equal(given[0].source.columns["x"], other.open().source.columns["x"])


@dataclasses.dataclass(frozen=True)
class Watched(Objective):
    """Denoising that reports its context: the step, and how far each average is from the parameters."""

    def averages(self):
        return {"slow": averages.constant(0.99)}

    def make(self, model):
        inner = Denoising().make(model)

        def objective(params, key, batch, context):
            def distance(average):
                squares = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), params["model"], average["model"])
                return sum(jax.tree.leaves(squares))

            known = {f"from_{name}": distance(average) for name, average in context.averages.items()}
            return Loss(inner(params, key, batch, context).losses, {"after": context.step, **known})

        return objective


def test_the_objective_is_given_its_averages_and_its_step_in_validation(tmp_path):
    """Validation judges the average `ema`, which therefore has the distance 0 from the parameters."""
    train(replaced(HELD_OUT, objective=Watched(), train__steps=9), tmp_path)
    line = next(line for line in metrics(tmp_path) if "validation_loss" in line)
    assert line["validation_after"] == line["step"] == 9
    assert line["validation_from_ema"] == 0
    assert line["validation_from_slow"] > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train__held_out": 0}, r"train\.validate_every = 9; allowed are 0 without train\.held_out"),
        ({"validation": Toy("gaussians")}, r"train\.held_out = 64; allowed are 0 with a validation set of its own"),
        ({"train__held_out": 2000}, r"train\.held_out = 2000; allowed are integers from 1 to 1999"),
        ({"train__held_out": 1990}, r"batch_size = 32"),
        (
            {"train__held_out": 0, "validation": Toy("moons")},
            r"field 'label' of validation = .*classes=2.*; allowed are fields like",
        ),
        (
            {"train__held_out": 0, "validation": Toy("checkerboard")},
            r"field 'label' of validation = None; allowed are fields like",
        ),
        ({"train__held_out": 0, "validation": data.Folder("nosuch")}, r"validation\.path = 'nosuch'"),
    ],
)
def test_examples_of_validation_that_do_not_fit_are_refused(settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        train(replaced(HELD_OUT, **settings), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_run_may_start_from_another(toy, tmp_path, monkeypatch):
    """Steps without finite losses are skipped, so that the parameters stay those that the run began with."""
    change_batches(monkeypatch, lambda number, batch: {**batch, "x": batch["x"] * np.nan})
    source = shutil.copytree(toy, tmp_path / "source")
    config = replaced(TOY, train__steps=2, train__start_from=str(source), train__seed=3)
    started = train(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, started.params, jd.load(toy).params)
    jax.tree.map(np.testing.assert_array_equal, jd.load(tmp_path / "run", ema=None).params, started.params)
    # The run goes on without the run that it began with.
    shutil.rmtree(source)
    train(replaced(config, train__steps=3), tmp_path / "run")
    given = train(
        replaced(config, train__start_from=None), tmp_path / "given", start={"model": started.params["model"]}
    )
    jax.tree.map(np.testing.assert_array_equal, given.params, started.params)


def test_a_run_that_does_not_fit_is_no_start(toy, tmp_path):
    (tmp_path / "here").mkdir()
    for settings, words in (
        ({"model__network__width": 8, "train__start_from": str(toy)}, r"train\.start_from = '.*allowed are parameters"),
        ({"model__conditions": {}, "train__start_from": str(toy)}, r"train\.start_from = '.*allowed are parameters"),
        ({"train__start_from": str(tmp_path / "none")}, r"train\.start_from: .*there is no such directory"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            train(replaced(TOY, **settings), tmp_path / "here" / "run")
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "here").iterdir())
    with pytest.raises(ValueError, match="start = 'other parameters'; allowed are parameters"):
        train(TOY, tmp_path / "here" / "run", start={"nothing": {}, "model": {}})
    assert not list((tmp_path / "here").iterdir())


@dataclasses.dataclass(frozen=True)
class File(Dataset):
    """Points in a file.

    Attributes:
      path: the file.
    """

    path: str

    def open(self):
        return data.from_arrays(**np.load(self.path), names={"label": [f"gaussians {i}" for i in range(8)]})


def test_moved_data_are_taken_and_changed_data_are_refused(tmp_path):
    columns = Toy("gaussians", n=100).open().source.columns
    np.savez(tmp_path / "here.npz", **columns)
    config = replaced(TOY, data=File(str(tmp_path / "here.npz")), train__steps=4)
    run = tmp_path / "run"
    train(config, run)
    (tmp_path / "here.npz").rename(tmp_path / "there.npz")
    moved = replaced(config, data=File(str(tmp_path / "there.npz")), train__steps=6)
    train(moved, run)
    assert steps(run) == [4, 6]
    before = contents(run)
    columns["x"][7, 0] += 1e-6
    np.savez(tmp_path / "there.npz", **columns)
    with pytest.raises(ValueError, match=r"holds a run with other settings: the checksum of the data was \w+, is \w+"):
        train(moved, run)
    assert contents(run) == before
