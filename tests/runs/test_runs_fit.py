"""`jd.fit`: networks, losses and data of one's own, in one call."""

import json
import random
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import own_models
import pytest
from devices import ROOT, forced

import jaxdiff as jd
from jaxdiff.conditions import Label
from jaxdiff.models import Autoencoder, Diffusion, FlowMap
from jaxdiff.networks import MLP
from jaxdiff.runs.fit import fit, model_and_data
from jaxdiff.runs.load import load

DIFFUSION = Diffusion(network=own_models.Normalised(), field="x", conditions={"label": Label()})

PATHS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
ENVIRONMENT = forced(1) | PATHS
TOGETHER = {"x": own_models.VECTORS, "label": own_models.LABELS}


class StoppedHere(Exception):
    """The end of a run in the middle."""


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_run_of_an_nnx_network_and_an_own_loss_goes_on_to_the_bit(tmp_path):
    """The process is killed, and this process resumes."""
    step, killed, whole = random.randrange(12, 28), tmp_path / "killed", tmp_path / "whole"
    program = f"import own_models; own_models.killed({str(killed)!r}, {step})"
    assert subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT).returncode == -9
    found = [int(path.name) for path in (killed / "checkpoints").iterdir() if path.name.isdigit()]
    assert 0 < max(found) <= step
    model = own_models.vectors(whole)
    assert_equal(own_models.vectors(killed), model)
    assert losses(killed) == losses(whole)


def test_an_interrupted_run_with_batch_statistics_goes_on_to_the_bit_and_loads(tmp_path):
    def stop(step, metrics):
        if step == last:
            raise StoppedHere

    last, run = random.randrange(5, 28), tmp_path / "run"
    with pytest.raises(StoppedHere):
        own_models.normalised(run, callbacks=[stop])
    model = own_models.normalised()
    assert_equal(own_models.normalised(run), model)
    statistics = model.params["model"]["batch_stats"]["BatchNorm_0"]
    assert np.abs(statistics["mean"]).max() > 1e-3  # they have moved
    with pytest.raises(ValueError, match=r"model\.network is an object .* own_models:Normalised.*model=model"):
        load(run)
    for given in (DIFFUSION, own_models.Normalised()):
        assert_equal(load(run, model=given), model)
    other = Diffusion(network=own_models.Normalised(width=8), field="x", conditions={"label": Label()})
    with pytest.raises(ValueError, match=r"model is not the model of the run: model\.network\.fingerprint was"):
        load(run, model=other)
    x = model.sample(jax.random.key(0), 3, label=2)
    assert x.shape == (3, 16)
    assert np.isfinite(x).all()


EIGHT = """
    import json, tempfile
    import jax
    import own_models
    from jaxdiff.runs.config import ParallelConfig

    def losses(train, **options):
        found = []
        train(steps=12, callbacks=[lambda step, metrics: found.append(metrics["loss"])], **options)
        return found

    ways = {
        "single": {"strategy": "single"}, "jit": {}, "fsdp": {"fsdp": 8}, "parts": {"strategy": "single", "accumulate": 4},
        "pmap": {"strategy": "pmap"},
    }
    for name, way in ways.items():
        parallel = ParallelConfig(**way)
        print(json.dumps({name: losses(own_models.vectors, parallel=parallel, dropout=0.0)}))
    for name in ("single", "fsdp"):
        print(json.dumps({"statistics " + name: losses(own_models.normalised, parallel=ParallelConfig(**ways[name]))}))
"""


def test_eight_devices_train_as_one():
    """An own loss draws the same numbers on any number of devices and with the batch in parts."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EIGHT)],
        env=forced(8) | PATHS,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {name: values for line in done.stdout.splitlines() for name, values in json.loads(line).items()}
    assert len(found) == 7
    for name, values in found.items():
        single = found["statistics single" if name.startswith("statistics") else "single"]
        np.testing.assert_allclose(values, single, rtol=1e-5, err_msg=name)


def test_a_pair_of_functions_learns_a_gaussian(tmp_path):
    """The best linear network for data N(1, 0.3^2) is known: its denoiser is that of `denoisers.gaussian`."""
    process = jd.processes.flow()

    def init(key):
        return {"w": jnp.zeros(2), "b": jnp.zeros(())}

    def apply(params, x, time):
        """The estimate of the data at t = 1/2, linear in x."""
        return params["w"][0] * x + params["b"]

    def loss(model, params, key, batch):
        x = batch["x"]
        x_t = jd.corrupt(process, x, jax.random.normal(key, x.shape), 0.5)
        return jnp.mean((model.apply(params, x_t, jnp.full(len(x), 0.5)) - x) ** 2, axis=1)

    stopped = []

    def enough(step, metrics, model):
        stopped.append((step, model().params["model"]["params"]["w"].shape))
        return step == 400

    model = fit(
        (init, apply), np.random.default_rng(0).normal(1.0, 0.3, (4096, 4)), steps=800, objective=loss, batch_size=256,
        optimizer=optax.adam(3e-2), log_every=100, callbacks=[enough], progress=False, ema_half_life=2000,
    )  # fmt: skip
    assert stopped == [(100 * i, (2,)) for i in range(1, 5)]  # a callback ends training
    exact = jd.denoisers.gaussian(process, 1.0, 0.3)
    x = jnp.linspace(-1, 2, 12).reshape(3, 4)
    w, b = (model.params["model"]["params"][name] for name in ("w", "b"))
    np.testing.assert_allclose(w[0] * x + b, exact(x, 0.5).x0, atol=0.02)


def test_a_network_alone_is_told_the_labels_that_it_takes():
    for network, told in ((MLP(), ["label"]), (own_models.Normalised(), ["label"]), (own_models.Untold(), [])):
        model, _ = model_and_data(network, TOGETHER)
        assert (model.field, sorted(model.conditions)) == ("x", told)


def test_a_run_starts_from_another_model():
    first = fit(MLP(width=8, num_blocks=1), own_models.VECTORS, steps=3, batch_size=8, progress=False)
    again = fit(
        MLP(width=8, num_blocks=1), own_models.VECTORS, steps=1, batch_size=8, start=first, progress=False,
        optimizer=optax.sgd(0.0), ema_half_life=1,
    )  # fmt: skip
    assert_equal(again.params["model"], first.params["model"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((MLP(), own_models.VECTORS, {"batchsize": 3}), TypeError, r"batchsize is no argument of fit; .*did you mean"),
        ((3, own_models.VECTORS, {}), TypeError, r"network = 3; allowed are networks: .* pairs of functions"),
        ((DIFFUSION, [1, 2], {}), TypeError, r"type of data = 'list'; allowed are arrays by name"),
        ((MLP(), {"label": own_models.LABELS}, {}), ValueError, r"fields of data = 'label'; allowed are data with"),
        ((MLP(), own_models.VECTORS, {"objective": 3}), TypeError, r"loss = 3; allowed are functions"),
        ((MLP(), own_models.VECTORS, {"optimizer": "adam"}), TypeError, r"optimizer = 'adam'; allowed are learning"),
        ((FlowMap(network=MLP(), field="x"), own_models.VECTORS, {}), ValueError, r"objectives of a FlowMap"),
        ((Autoencoder(network=nn.Dense(3)), own_models.VECTORS, {}), ValueError, r"networks that encode and decode"),
        (
            (own_models.Normalised(), TOGETHER, {"objective": own_models.of_class}),
            ValueError,
            r"objective = 'OwnObjective'; allowed are objectives that give the new state of the network",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, error, words, tmp_path):
    model, data, options = arguments
    with pytest.raises(error, match=words):
        fit(model, data, steps=2, batch_size=8, progress=False, directory=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
