"""The `config.json` of a run: its configuration, the facts about its data, and where its parts lie."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxdiff.checks import one_line, shortened
from jaxdiff.components import from_json, is_opaque, is_part, to_json, walk
from jaxdiff.models import Model
from jaxdiff.networks import as_network
from jaxdiff.objectives.own import OwnObjective
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.differences import differences
from jaxdiff.runs.directory import Run, RunError, read_config
from jaxdiff.runs.facts import Facts
from jaxdiff.training.optimizers import OwnOptimizer

FORMAT = 2
_ENTRIES = {"format", "config", "data", "places", "imports"}


class Settings(NamedTuple):
    """The contents of `config.json`.

    Attributes:
      config: the configuration.
      facts: the facts about the data and the parts.
      places: the path of each part, by the path of its setting, absolute.
      imports: the modules that define kinds of the configuration. They are a hint for people, and never imported.
    """

    config: Config
    facts: Facts
    places: dict[str, Path]
    imports: tuple[str, ...]


@contextlib.contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Puts the path of a file before the text of a ValueError or TypeError, which becomes a RunError."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: {one_line(error, 1000)}") from error


def parts_of(config: Config) -> dict[str, str]:
    """The settings that are parts: other runs and files of weights, by the path of the setting."""
    return {s.path: s.value for s in walk(config, Config) if is_part(s.hint) and s.value is not None}


def saved_settings(config: Config, facts: Facts, run: Run, places: dict[str, Path]) -> dict[str, Any]:
    """The contents of the `config.json` of a run. Parts are named by their paths relative to the run."""
    tree = to_json(config)
    relative = {name: os.path.relpath(place, run.directory) for name, place in places.items()}
    imports = sorted(_modules(tree))
    return {"format": FORMAT, "config": tree, "data": facts.to_json(), "places": relative, "imports": imports}


def check_saved(saved: dict[str, Any]) -> None:
    """Raises a ValueError unless `saved` has the entries that `saved_settings` makes."""
    if saved.get("format") != FORMAT or set(saved) != _ENTRIES:
        known = "of an older version" if set(saved) == {"config", "data"} else "not the configuration of a run"
        raise ValueError(f"is {known}; this version reads format {FORMAT}: train the run again")
    from_json(dict[str, str], saved["places"], "places")
    from_json(tuple[str, ...], saved["imports"], "imports")


def read_settings(run: Run, model: Any = None) -> Settings:
    """The settings of a run.

    Args:
      run: the run.
      model: the model of the run, or its network, given again because JSON cannot name all of it; None to read it from
        the file.

    Raises:
      ValueError: `config.json` cannot be read, this version does not allow its settings, the model has to be given
        again, or `model` is another one.
    """
    saved = read_config(run)
    with in_file(run.config):
        check_saved(saved)
    try:
        config, facts = from_json(Config, _given_again(saved["config"], model)), Facts.from_json(saved["data"])
        check(config)
    except (ValueError, TypeError) as error:
        hint = shortened(", ".join(saved["imports"]))
        more = f"; the run was made with {hint}: --import it" if hint and "is not imported" in str(error) else ""
        more = more or "; jd.load(run, model=model) takes it back" * ("of the user's own" in str(error))
        raise RunError(f"{run.config}: {one_line(error, 1000)}{more}") from error
    places = {name: (run.directory / place).resolve() for name, place in saved["places"].items()}
    return Settings(config, facts, places, tuple(saved["imports"]))


def _given_again(tree: Any, model: Any) -> Any:
    """The JSON of a configuration, with the model or network that was given again.

    Stand-ins take the places of an objective and an optimiser of the user's own, which a loaded model does not need.
    """
    if not isinstance(tree, dict):
        return tree
    own: dict[str, Any] = {"objective": OwnObjective(), "optimizer": OwnOptimizer()}
    tree = {name: own[name] if name in own and is_opaque(value) else value for name, value in tree.items()}
    if model is None:
        return tree
    before = tree.get("model")
    if not isinstance(model, Model):
        inner: dict[str, Any] = before if isinstance(before, dict) else {}
        network = as_network(model)
        changed = differences(inner.get("network"), to_json(network), "model.network")
        tree["model"] = {**inner, "network": network}
    else:
        changed = differences(before, to_json(model), "model")
        tree["model"] = model
    if changed:
        raise ValueError(f"model is not the model of the run: {'; '.join(changed)}")
    return tree


def _modules(tree: Any) -> set[str]:
    """The modules of the kinds `module:Name` in JSON settings."""
    if isinstance(tree, dict):
        own = {tree["kind"].partition(":")[0]} if ":" in str(tree.get("kind", "")) else set()
        return own.union(*map(_modules, tree.values()))
    return set().union(*map(_modules, tree)) if isinstance(tree, list) else set()
