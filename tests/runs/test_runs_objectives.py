"""Objectives in runs: with a state of their own, with examples that depend on each other, with other networks."""

import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from additions.blobs import Blobs
from run_files import assert_same_run, final_state
from run_settings import TOY, replaced

import jaxdiff as jd
from jaxdiff import parametrizations, processes
from jaxdiff.augmentations import EDM
from jaxdiff.components import choose
from jaxdiff.conditions import Text, Vector
from jaxdiff.data.fields import Field
from jaxdiff.models import Diffusion, Embedding
from jaxdiff.networks import MLP, ConvAutoencoder, TextTransformer, UNet
from jaxdiff.objectives import Contrastive, Denoising, Loss, Objective, times
from jaxdiff.runs.config import Config, ParallelConfig, TrainConfig
from jaxdiff.runs.loop import train
from jaxdiff.runs.recipe import load_frozen, make_training

pytestmark = pytest.mark.usefixtures("compiled_once")

IMPORTANCE = replaced(
    TOY,
    model__process=choose(processes.vp_discrete, schedule="cosine", steps=8),
    model__parametrization=choose(parametrizations.eps),
    objective=Denoising(times=choose(times.importance, history=4), learned_weighting=True),
    train__steps=24,
    train__log_every=5,
    train__checkpoint_every=12,
)


def test_importance_sampling_resumes_to_the_bit(tmp_path):
    """The recent losses of each noise level are in the checkpoints, and so is the learned weighting."""
    train(IMPORTANCE, tmp_path / "whole")
    run = shutil.copytree(tmp_path / "whole", tmp_path / "run")
    _, state = final_state(run)
    seen = state["['extra']['times'].seen" if "['extra']['times'].seen" in state else "['extra']['times']['seen']"]
    assert seen.shape == (8,)
    assert seen.sum() == 24 * 32
    shutil.rmtree(run / "checkpoints" / "24")
    train(IMPORTANCE, run)
    assert_same_run(run, tmp_path / "whole")
    # The averages leave the parameters of the objective out, and sampling does not need them.
    assert not any(name.startswith("['ema']") and "log_variance" in name for name in state)
    assert any(name.startswith("['params']") and "log_variance" in name for name in state)
    assert np.isfinite(jd.load(run).sample(jax.random.key(0), 3, label=1)).all()


CONTRASTIVE = Config(data=Blobs(), model=Embedding(), objective=Contrastive(), train=TrainConfig(batch_size=16))


@pytest.mark.parametrize(("config", "name"), [(IMPORTANCE, "Denoising"), (CONTRASTIVE, "Contrastive")])
@pytest.mark.parametrize(
    ("parallel", "words"),
    [
        (ParallelConfig(accumulate=2), r"parallel\.accumulate = 2; allowed are 1 with the objective {name}"),
        (
            ParallelConfig(strategy="pmap"),
            r"parallel\.strategy = 'pmap'; allowed are jit and single with the objective {name}",
        ),
    ],
)
def test_an_objective_that_couples_examples_needs_the_whole_batch(config, name, parallel, words, tmp_path):
    with pytest.raises(ValueError, match=words.format(name=name)) as error:
        train(replaced(config, parallel=parallel), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


TOLD = Diffusion(network=MLP(width=8), conditions={"text": Text(encoder=TextTransformer(width=8, length=8))})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": TOLD}, r"model\.conditions\.text = tokens; allowed are class, vector: the channels of MLP"),
        (
            {"objective": Contrastive()},
            r"objective\.model = 'BoundDiffusion'; allowed are Embedding with this objective",
        ),
        (
            {"model": Embedding(), "objective": Denoising()},
            r"objective\.model = 'BoundEmbedding'; allowed are Diffusion",
        ),
        ({"model__network": ConvAutoencoder()}, r"model\.network\.kind = 'ConvAutoencoder'"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(settings, words, tmp_path):
    config = Config(data=Blobs(), model=Diffusion(network=MLP(width=8)), train=TrainConfig(batch_size=16))
    with pytest.raises(ValueError, match=words) as error:
        train(replaced(config, **settings), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


class Naming(Objective):
    """An objective with one metric."""

    def __init__(self, name):
        self.name = name

    def make(self, model):
        return lambda params, key, batch, context: Loss(jnp.zeros(()), {self.name: jnp.zeros(())})


@pytest.mark.parametrize("name", ["loss", "time", "validation_loss"])
def test_a_metric_whose_name_is_taken_is_refused_when_the_training_is_made(name):
    """The names are those of a line of `metrics.jsonl`, of which no number may hide another."""
    frozen, fields = load_frozen(TOY, None), TOY.data.open().fields
    with pytest.raises(ValueError, match=f"metric of the objective = '{name}'; allowed are names other than loss,"):
        make_training(replaced(TOY, objective=Naming(name)), fields, frozen)


def test_a_field_that_an_augmentation_adds_for_nobody_is_told():
    """Without its condition, EDM's augmentation would train a network of transformed data in silence."""
    frozen, fields = load_frozen(TOY, None), {"image": Field("picture", (8, 8, 1), "uint8")}
    told, network = {"augmentation": Vector("augmentation")}, UNet(channels=8, multipliers=(1,), attention_levels=())
    config = replaced(TOY, model=Diffusion(network=network, conditions=told), augmentations=(EDM(),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_training(config, fields, frozen)
    with pytest.warns(UserWarning, match=r"model\.conditions\.augmentation = Vector\(field='augm") as caught:
        make_training(replaced(config, model__conditions={}), fields, frozen)
    assert len(caught) == 1
