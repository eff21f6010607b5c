"""The snapshots of a run on disk, against averages that were computed exactly while the parameters changed."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdiff as jd
from jaxdiff import averages
from jaxdiff.averages import power_name
from jaxdiff.cli import ema as command
from jaxdiff.components import Table
from jaxdiff.data import Toy
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion
from jaxdiff.networks import MLP
from jaxdiff.runs import snapshots
from jaxdiff.runs.checkpoints import Checkpoints
from jaxdiff.runs.config import Config, TrainConfig
from jaxdiff.runs.directory import create_run, open_run, write_config
from jaxdiff.runs.facts import Facts
from jaxdiff.runs.provenance import provenance
from jaxdiff.runs.settings import saved_settings

WIDTHS = (0.05, 0.1)
NETWORK = MLP(width=8, num_blocks=1)
STEPS, EVERY, OTHER = 240, 20, 0.075


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run as training leaves it, but with parameters that wander at random.

    Returns the directory, the last parameters, the last averages of the two widths that the snapshots hold, and the
    exact average of a third width at every snapshot.
    """
    directory = tmp_path_factory.mktemp("runs") / "wandering"
    train = TrainConfig(steps=STEPS, ema_widths=WIDTHS, snapshot_every=EVERY)
    config = Config(data=Toy("gaussians"), model=Diffusion(network=NETWORK, field="x"), train=train)
    run = create_run(directory)
    write_config(run, saved_settings(config, Facts(Table(x=Field("values", (2,)))), run, {}))
    params = {"model": jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))}

    @jax.jit
    def advance(params, ema, number):
        """The next `EVERY` steps."""

        def step(carry, number):
            params, ema = carry
            keys = jax.random.split(jax.random.fold_in(jax.random.key(0), number), len(jax.tree.leaves(params)))
            noise = jax.tree.unflatten(jax.tree.structure(params), list(keys))
            params = jax.tree.map(lambda p, key: p + 0.1 * jax.random.normal(key, p.shape), params, noise)
            updated = {
                power_name(width): averages.update(ema[power_name(width)], params, averages.power(width)(number))
                for width in (*WIDTHS, OTHER)
            }
            return (params, updated), None

        return jax.lax.scan(step, (params, ema), number + jnp.arange(EVERY))[0]

    ema, exact = {power_name(width): params for width in (*WIDTHS, OTHER)}, {}
    with (
        Checkpoints(directory / "snapshots", keep=100, version=provenance()) as taken,
        Checkpoints(directory / "checkpoints", version=provenance()) as saved,
    ):
        for number in range(1, STEPS, EVERY):
            params, ema = advance(params, ema, number)
            last = number + EVERY - 1
            kept = {power_name(width): ema[power_name(width)] for width in WIDTHS}
            exact[last] = ema[power_name(OTHER)]
            taken.save(last, kept)
        saved.save(STEPS, {"params": params, "ema": {"ema": params, **kept}})
    return directory, params, kept, exact


@pytest.fixture(scope="module")
def reconstructed(run):
    """The model with the average of the third width, after two steps."""
    return {step or STEPS: jd.load(run[0], ema=OTHER, step=step) for step in (None, 120)}


def test_a_width_that_was_not_kept_is_made_of_snapshots(run, reconstructed):
    _, params, _, exact = run
    # A walk of 240 steps of 0.1 has a standard deviation of about 0.1 sqrt(240 width) = 0.4 about its average, and the
    # profile is missed by half a percent: 0.002 for one parameter, and less than ten times that for the largest.
    for step, model in reconstructed.items():
        assert jax.tree.leaves(model.params)[0].dtype == jnp.float32
        chex.assert_trees_all_close(model.params, exact[step], rtol=0, atol=0.02)
    apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, exact[STEPS])
    assert max(jax.tree.leaves(apart)) > 0.5  # the tolerance above tells the average from the parameters


def test_a_width_that_was_kept_is_itself(run):
    directory, _, kept, _ = run
    for width in WIDTHS:
        stored = jd.load(directory, ema=power_name(width)).params
        chex.assert_trees_all_equal(stored, kept[power_name(width)])
    chex.assert_trees_all_close(jd.load(directory, ema=width).params, stored, rtol=0, atol=1e-5)


def test_an_average_can_be_stored_and_loaded_by_name(run, reconstructed, capsys):
    directory = run[0]
    with pytest.raises(ValueError, match=r"ema = 'power_0\.075'; allowed are "):
        jd.load(directory, ema="power_0.075")
    for step, expected in reconstructed.items():  # the second average replaces the first
        command.make_average(command.Arguments(directory, OTHER, step))
        assert json.loads(capsys.readouterr().out)["step"] == (step or STEPS)
        model = jd.load(directory, ema="power_0.075")
        chex.assert_trees_all_equal(model.params, expected.params)
    with pytest.raises(ValueError, match="no checkpoint of step 240; there are: 120"):
        jd.load(directory, ema="power_0.075", step=STEPS)
    with pytest.raises(ValueError, match=r"width = 0\.1; allowed are widths other than"):
        command.make_average(command.Arguments(directory, 0.1))


def test_an_average_that_cannot_be_stored_leaves_the_one_before(run, reconstructed, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    opened = open_run(run[0])
    snapshots.store(opened, 0.06, 5, reconstructed[STEPS].params)
    monkeypatch.setattr("jaxdiff.runs.checkpoints.saving.write_atomically", refuse)
    with pytest.raises(ValueError, match="No space left"):
        snapshots.store(opened, 0.06, 6, reconstructed[120].params)
    chex.assert_trees_all_equal(jd.load(run[0], ema="power_0.06", step=5).params, reconstructed[STEPS].params)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ema": 0.4}, r"relative_width = 0\.4; allowed"),
        ({"ema": 1}, r"relative_width = 1\.0; allowed"),
        ({"ema": 0.01}, r"ema = 0\.01; allowed are .* widths 0\.05, 0\.1 at 12 steps give this one with \d\d%"),
        ({"ema": 0.075, "step": 130}, "step = 130; allowed are the steps of the snapshots: 20, 40, 60"),
        ({"ema": "power_0"}, "ema = 'power_0'; allowed are "),
        ({"ema": ""}, "ema = ''; allowed are "),
    ],
)
def test_averages_that_a_run_cannot_give_are_refused_in_one_line(run, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        jd.load(run[0], **arguments)
    assert "\n" not in str(error.value)


def test_a_run_without_snapshots_is_refused(run, tmp_path):
    (tmp_path / "config.json").write_bytes((run[0] / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"has none: train with train\.ema_widths and train\.snapshot_every"):
        jd.load(tmp_path, ema=0.075)
