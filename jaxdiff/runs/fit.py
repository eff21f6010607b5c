"""Training in one call, on arrays, networks and losses of one's own."""

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import optax
from jaxtyping import PyTree

from jaxdiff.augmentations import Augmentation
from jaxdiff.checks import did_you_mean, message, require
from jaxdiff.components import Table, from_json, settings_of
from jaxdiff.conditions import Label
from jaxdiff.data import Arrays, Dataset, Examples, from_arrays
from jaxdiff.models import Diffusion, Model, Sampling
from jaxdiff.networks import as_network
from jaxdiff.objectives import Objective
from jaxdiff.objectives.own import from_function
from jaxdiff.runs.config import Config, LoadingConfig, LogConfig, ParallelConfig, TrainConfig
from jaxdiff.runs.loop import train
from jaxdiff.runs.trainer import Callback
from jaxdiff.training.optimizers import OptimizerConfig, OwnOptimizer

# Kinds of fields that say something about an example, and are not modelled unless the model names them.
_ABOUT = ("label", "text", "mask")


def fit(
    model: Any,
    data: Any,
    *,
    steps: int,
    directory: str | os.PathLike[str] | None = None,
    objective: Objective | Callable[..., Any] | None = None,
    optimizer: OptimizerConfig | optax.GradientTransformation | float | None = None,
    validation: Any = None,
    augmentations: Sequence[Augmentation] = (),
    sampling: Sampling | None = None,
    start: PyTree = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    parts: Mapping[str, str | os.PathLike[str]] | None = None,
    parallel: ParallelConfig | Mapping[str, Any] | None = None,
    loading: LoadingConfig | Mapping[str, Any] | None = None,
    log: LogConfig | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """Trains a model on data, on all devices of this job, and returns it.

        model = jd.fit(jd.networks.UNet(channels=32), {"image": images, "label": labels}, steps=1000)
        threes = model.sample(jax.random.key(0), 16, label=3)

    With a directory it is a run like those of the command line: killed and called again, training goes on to the bit,
    and `jd.load(directory)` opens it. `jd.load(directory, model=model)` opens a run with a network of your own.

    Args:
      model: a component of `jaxdiff.models`, such as `Diffusion(network=..., conditions={"label": Label()})`. Or a
        network alone, for a diffusion model of the first field of the data that is neither a label, a text nor a mask,
        with the labels of the data that the network takes as conditions: a component of `jaxdiff.networks`, a Linen
        module, an NNX module, or a pair of functions `(init, apply)` (see `networks.as_network`).
      data: arrays by the names of their fields, whose first axes count the examples (see `data.from_arrays`); one array
        for the only field of the model; a component of `jaxdiff.data`; or `data.Examples` of any source.
      steps: the number of training steps.
      directory: the run directory; None to write no files.
      objective: a component of `jaxdiff.objectives`, or a loss of your own (see `objectives.from_function`); None for
        the usual objective of the model.
      optimizer: a learning rate, `training.optimizers.OptimizerConfig`, or any Optax transformation.
      validation: data for `validate_every`, like `data`. Or `held_out` examples of the data are kept from training.
      augmentations: components of `jaxdiff.augmentations`.
      sampling: how samples are drawn from the model, unless one says otherwise.
      start: what a new run begins with: the path of a run, a model that `fit` or `jd.load` returned, or parameters
        `{"model": ...}`.
      callbacks: functions `(step, metrics)` or `(step, metrics, model)`, which are called every `log_every` steps.
        `model()` is the model so far. Training ends if one of them returns true.
      progress: whether to show progress on standard error.
      parts: where parts of the run have moved, by the path of their setting.
      parallel: the use of the devices: the settings of `runs.config.ParallelConfig`, such as `{"fsdp": 8}`.
      loading: how data are read: the settings of `runs.config.LoadingConfig`.
      log: reports beside metrics and samples: the settings of `runs.config.LogConfig`.
      **settings: `batch_size`, `seed`, `ema_half_life`, `held_out`, `validate_every`, `log_every`, `checkpoint_every`,
        and all other settings of `runs.config.TrainConfig`.

    Returns:
      The trained model with averaged parameters, as `jd.load` returns it.

    Raises:
      TypeError: an argument is of the wrong type, or there is no such setting.
      ValueError, OSError: the arguments do not fit each other, or the directory cannot be used (see `loop.train`).
      DivergedError: the loss or the gradient was not finite in too many consecutive steps.
    """
    allowed = [name for name in settings_of(TrainConfig) if name not in ("steps", "start_from")]
    for name in settings:
        if name not in allowed:
            near = did_you_mean(name, allowed)
            raise TypeError(f"{name} is no argument of fit; further arguments are {', '.join(allowed)}{near}")
    chosen, dataset = model_and_data(model, data)
    others = {"parallel": parallel, "loading": loading, "log": log, "sample": sampling}
    hints = settings_of(Config)
    path = start if isinstance(start, str | os.PathLike) else None
    config = Config(
        data=dataset,
        validation=None if validation is None else _dataset(validation, chosen),
        augmentations=tuple(augmentations),
        model=chosen,
        objective=_objective(objective, chosen),
        optimizer=_optimizer(optimizer),
        train=TrainConfig(steps=steps, start_from=None if path is None else os.fspath(path), **settings),
        **{name: from_json(hints[name].hint, value, name) for name, value in others.items() if value is not None},
    )
    given = None if path is not None else getattr(start, "params", start)
    return train(config, directory, parts=parts, start=given, callbacks=callbacks, progress=progress)


def model_and_data(model: Any, data: Any) -> tuple[Model, Dataset]:
    """The model and the data as components. The arguments and errors are those of `fit`."""
    if isinstance(model, Model):
        return model, _dataset(data, model)
    network = as_network(model)
    dataset = _dataset(data, None)
    fields = dataset.open().fields
    modelled = [name for name, field in fields.items() if field.kind not in _ABOUT]
    require(
        modelled, "fields of data", ", ".join(fields), "data with a field that is neither a label, a text nor a mask"
    )
    known = [name for name, field in fields.items() if field.kind == "label" and network.can_be_told(name, "class")]
    labels = {name: Label(field=name) for name in known}
    return Diffusion(network=network, field=modelled[0], conditions=Table(labels)), dataset


def _dataset(data: Any, model: Model | None) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Examples):
        return Arrays(data)
    if isinstance(data, Mapping):
        return Arrays(from_arrays(data))
    field = "x" if model is None else getattr(model, "field", None)
    good = hasattr(data, "__array__") and isinstance(field, str)
    allowed = "arrays by name, one array for a model of one field, components of jaxdiff.data, and data.Examples"
    if not good:
        raise TypeError(message("type of data", type(data).__name__, allowed))
    return Arrays(from_arrays({str(field): np.asarray(data)}))


def _objective(objective: Any, model: Model) -> Objective:
    if objective is None:
        usual: Objective = model.objective()
        return usual
    return objective if isinstance(objective, Objective) else from_function(objective)


def _optimizer(optimizer: Any) -> OptimizerConfig:
    if optimizer is None:
        return OptimizerConfig()
    if isinstance(optimizer, OptimizerConfig):
        return optimizer
    if isinstance(optimizer, Real) and not isinstance(optimizer, bool):
        return OptimizerConfig(learning_rate=float(optimizer))
    good = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    allowed = "learning rates, training.optimizers.OptimizerConfig, and Optax transformations"
    require(good, "optimizer", optimizer, allowed, TypeError)
    return OwnOptimizer(transformation=optimizer)
