"""Checks of a whole configuration: settings that are valid alone may not fit each other."""

import dataclasses
import math
from typing import Any

from jaxdiff import parametrizations
from jaxdiff.checks import integer, not_negative, one_of, positive, require
from jaxdiff.networks import MLP, UNet
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_json import to_json


def check(config: Config) -> None:
    """Checks that the settings of `config` are valid together.

    The check computes with JAX, so that several processes must be joined before it, and settings do not call it when
    they are made.

    Raises:
      ValueError, TypeError: one line that names a setting, its value and the values that are allowed.
    """
    _check_finite("", to_json(config))
    _check_network(config.network)
    process = config.diffusion.make_process()
    parametrizations.check(process, config.diffusion.make_parametrization())
    config.diffusion.make_weighting()
    config.diffusion.make_times()
    config.sample.make_tableau(process)
    train, parallel, profile = config.train, config.parallel, config.log.profile
    require(
        train.batch_size % parallel.accumulate == 0,
        "parallel.accumulate",
        parallel.accumulate,
        f"divisors of train.batch_size = {train.batch_size}",
    )
    for name in ("steps", "log_every", "sample_every", "checkpoint_every", "snapshot_every"):
        every = getattr(train, name)
        allowed = f"multiples of parallel.steps_per_call = {parallel.steps_per_call}"
        require(every % parallel.steps_per_call == 0, f"train.{name}", every, allowed)
    good = profile is None or profile[0] <= train.steps
    require(good, "log.profile", profile, f"steps up to train.steps = {train.steps}")


def _check_finite(name: str, value: Any) -> None:
    """Refuses numbers that `config.json` cannot hold."""
    for key, item in value.items() if isinstance(value, dict) else ():
        _check_finite(f"{name}.{key}".strip("."), item)
    numbers = value if isinstance(value, list) else [value]
    require(all(math.isfinite(n) for n in numbers if isinstance(n, float)), name, value, "finite numbers")


def _check_network(network: UNet | MLP) -> None:
    """Refuses settings that would fail late or never. The network itself checks the others when it is called."""
    fields = {f"network.{f.name}": getattr(network, f.name) for f in dataclasses.fields(network)}
    for name in ("network.num_classes", "network.augmentation_features", "network.vector_features"):
        require(fields[name] == 0, name, fields[name], "0, since the data set tells the network")
    integer("network.num_blocks", network.num_blocks, least=0, most=1000)
    one_of("network.dtype", network.dtype, ("bfloat16", "float16", "float32", None))
    if isinstance(network, UNet):
        for multiplier in network.multipliers:
            integer("network.multipliers", multiplier)
        not_negative("network.norm_eps", network.norm_eps)
        positive("network.skip_scale", network.skip_scale)
