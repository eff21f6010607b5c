"""Runs whose network is partly frozen: fine-tuning by adapters, which begins with another run."""

import jax
import numpy as np
import pytest
from run_settings import TOY, replaced

import jaxdiff as jd
from jaxdiff import trees
from jaxdiff.components import Table
from jaxdiff.models.model import Bound
from jaxdiff.networks import MLP, ControlNet, LoRA
from jaxdiff.runs.loop import train

pytestmark = pytest.mark.usefixtures("compiled_once")

LORA = replaced(TOY, model__network=LoRA(TOY.model.network, rank=2), train__steps=3, train__seed=3)


@pytest.fixture(scope="module")
def tuned(toy, tmp_path_factory):
    """A run of three steps of Muon with weight decay, which begins with the weights of a run."""
    config = replaced(LORA, train__start_from=str(toy), optimizer__weight_decay=0.1, optimizer__name="muon")
    config = replaced(config, optimizer__warmup=0)
    return train(config, tmp_path_factory.mktemp("lora") / "run"), config


def test_the_adapters_alone_are_trained(toy, tuned):
    base, params = jd.load(toy).params["model"]["params"], tuned[0].params["model"]["params"]
    jax.tree.map(np.testing.assert_array_equal, params["network"], base)
    named = jax.tree_util.tree_leaves_with_path(params["adapters"])
    ups = [leaf for path, leaf in named if trees.words_of(path)[-1] == "up"]
    assert len(ups) == len(named) // 2 > 4
    assert all(np.abs(up).max() > 0 for up in ups)


def test_the_merged_network_is_that_of_the_run(tuned):
    model, network = tuned[0], tuned[0].bound.network
    alone = network.network.apply
    x, time, label = np.ones((3, 2), np.float32), np.linspace(0, 1, 3, dtype=np.float32), np.arange(3)
    merged = {"params": network.merged(model.params["model"]["params"])}
    found = network.apply(model.params["model"], x, time, label)
    np.testing.assert_allclose(found, alone(merged, x, time, label), atol=1e-6)


def test_a_run_of_adapters_may_go_on_in_another(toy, tuned, tmp_path):
    model, config = tuned
    again = train(
        replaced(config, train__start_from=None, train__steps=3), None, start={"model": model.params["model"]}
    )
    jax.tree.map(np.testing.assert_array_equal, *(m.params["model"]["params"]["network"] for m in (again, model)))
    warning = r"train\.start_from is none: LoRA trains the parameters '\^adapters.* stay random; name a trained run"
    with pytest.warns(UserWarning, match=warning):
        train(replaced(config, train__start_from=None), None)
    with pytest.raises(ValueError, match=r"train\.start_from = '.*allowed are parameters"):
        train(replaced(config, model__network=LoRA(MLP(width=8)), train__start_from=str(toy)), tmp_path / "other")


def test_the_network_inside_a_controlnet_is_constant_in_training():
    bound = Bound(None, Table(), ControlNet())
    params = {"model": {"params": {"network": {"kernel": 2.0}, "side": {"kernel": 3.0}}}, "conditions": 5.0}
    slopes = jax.grad(lambda params: sum(jax.tree.leaves(bound.held(params))))(params)
    assert slopes == {"model": {"params": {"network": {"kernel": 0.0}, "side": {"kernel": 1.0}}}, "conditions": 1.0}
