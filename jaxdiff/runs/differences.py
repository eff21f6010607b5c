"""The settings in which two configurations differ, in words."""

import itertools
from collections.abc import Collection
from typing import Any

from jaxdiff.components.paths import join


def differences(before: Any, now: Any, path: str = "", free: Collection[str] = ()) -> list[str]:
    """The settings that differ, each as `name was a, is b`.

    Of a part whose kind differs, the settings are others anyway, and the kind alone is told.

    Args:
      before, now: settings as JSON values.
      path: the path of both.
      free: the paths of settings that may differ.
    """
    if path in free or before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        names = ["kind"] if before.get("kind") != now.get("kind") else list({**before, **now})
        pairs = [(name, before.get(name), now.get(name)) for name in names]
    elif isinstance(before, list) and isinstance(now, list) and any(isinstance(item, dict) for item in before + now):
        pairs = [(str(i), *pair) for i, pair in enumerate(itertools.zip_longest(before, now))]
    else:
        return [f"{path} was {_shown(before)}, is {_shown(now)}"]
    return [text for name, old, new in pairs for text in differences(old, new, join(path, name), free)]


def _shown(value: Any) -> str:
    """A JSON value in the words of a flag: a part by its kind, and nothing as `none`."""
    if isinstance(value, dict):
        return str(value.get("kind") or value or "none")
    return "none" if value in (None, []) else str(value)
