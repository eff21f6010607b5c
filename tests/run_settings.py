"""Helpers of the tests of runs: a small run, other values of settings, and the files of a directory."""

import dataclasses

from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Toy
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import MLP
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

# The periods of logs and checkpoints differ, so that a checkpoint also holds metrics that have no line yet.
TOY = Config(
    data=Toy("gaussians", n=2000),
    model=Diffusion(
        network=MLP(width=16, num_blocks=1, dropout=0.1),
        process=choose(processes.flow),
        parametrization=choose(parametrizations.velocity),
        field="x",
        conditions={"label": Label(dropout=0.1)},
    ),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=10),
    train=TrainConfig(steps=210, batch_size=32, log_every=15, checkpoint_every=40, sample_every=0, ema_half_life=500),
    sample=Sampling(steps=3),
)


def replaced(config, **settings):
    """`config` with other values: `train__steps=3`, `model__network__width=8`; `model=value` for a whole group."""
    inner, own = {}, {}
    for path, value in settings.items():
        name, _, rest = path.partition("__")
        if rest:
            inner.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    for name, values in inner.items():
        part = own.get(name, getattr(config, name))
        own[name] = replaced(part, **values)
    return config.clone(**own) if hasattr(config, "clone") else dataclasses.replace(config, **own)


def contents(directory):
    """Every file but a lock, with its time of change: a program that writes nothing leaves all as it is."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "trainer.lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
