"""Settings as JSON, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import dacite
import flax.linen as nn

from jaxdiff.checks import did_you_mean
from jaxdiff.networks import MLP, UNet
from jaxdiff.runs.config import Config


def to_json(settings: Any) -> Any:
    """Settings as JSON values: dataclasses and Linen modules become objects, tuples become lists."""
    if dataclasses.is_dataclass(settings):
        hidden = ("parent", "name") if isinstance(settings, nn.Module) else ()
        shown = [f.name for f in dataclasses.fields(settings) if f.name not in hidden]
        return {name: to_json(getattr(settings, name)) for name in shown}
    if isinstance(settings, list | tuple):
        return [to_json(item) for item in settings]
    if isinstance(settings, dict):
        return {name: to_json(item) for name, item in settings.items()}
    return settings


def from_json(values: Mapping[str, Any]) -> Config:
    """The configuration that `to_json` wrote.

    Raises:
      ValueError: a setting is unknown, of the wrong type or out of range.
    """
    strict = dacite.Config(cast=[tuple], strict=True)
    try:
        if isinstance(fields := values.get("network"), Mapping):
            # For a union dacite reports only that no member fits, so the member with the most fields in common is
            # chosen here.
            kind = max((UNet, MLP), key=lambda kind: len(fields.keys() & {f.name for f in dataclasses.fields(kind)}))
            values = {**values, "network": dacite.from_dict(kind, fields, strict)}
        return dacite.from_dict(Config, values, strict)
    except dacite.UnexpectedDataError as error:
        known = {f.name for part in (*_parts(Config()), MLP()) for f in dataclasses.fields(part)}
        unknown = sorted(error.keys)
        raise ValueError(f"unknown setting {', '.join(unknown)}{did_you_mean(unknown[0], known)}") from error
    except dacite.DaciteError as error:
        raise ValueError(str(error)) from error


def _parts(config: Config) -> list[Any]:
    return [config, *(getattr(config, f.name) for f in dataclasses.fields(config))]
