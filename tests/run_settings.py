"""Helpers of the tests of runs: other values of settings, and the files of a directory."""

import dataclasses


def replaced(config, **settings):
    """`config` with other values: `group__name=value` for a setting, `group=value` for a whole group."""
    groups = {}
    for path, value in settings.items():
        group, _, name = path.partition("__")
        if name:
            groups.setdefault(group, {})[name] = value
        else:
            config = dataclasses.replace(config, **{group: value})
    for group, values in groups.items():
        part = getattr(config, group)
        part = part.clone(**values) if group == "network" else dataclasses.replace(part, **values)
        config = dataclasses.replace(config, **{group: part})
    return config


def contents(directory):
    """Every file but a lock, with its time of change: a program that writes nothing leaves all as it is."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "trainer.lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
