"""The `config.json` of a run: its configuration and the facts about its data."""

from typing import Any

from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.config_json import from_json, to_json
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.directory import Run, read_config


def saved_settings(config: Config, spec: DataSpec) -> dict[str, Any]:
    """The contents of `config.json`: the configuration as "config", the facts about the data as "data"."""
    return {"config": to_json(config), "data": to_json(spec)}


def read_saved(run: Run) -> dict[str, Any]:
    """The contents of a run's `config.json`, as `saved_settings` made them.

    Raises:
      ValueError: the file cannot be read, or does not have exactly the entries "config" and "data".
    """
    saved = read_config(run)
    if set(saved) != {"config", "data"}:
        raise ValueError(f"{run.config}: is not the configuration of a run, which has the entries 'config' and 'data'")
    return saved


def read_settings(run: Run) -> tuple[Config, DataSpec]:
    """The configuration of a run and the facts about its data.

    Raises:
      ValueError: `config.json` cannot be read, or this version does not allow its settings.
    """
    saved = read_saved(run)
    try:
        config, spec = from_json(saved["config"]), DataSpec.from_json(saved["data"])
        check(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{run.config}: {error}") from error
    return config, spec
