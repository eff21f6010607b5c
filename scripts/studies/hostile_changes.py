"""What makes a file bad: odd values in JSON, changed bytes, and things that are no regular files."""

import dataclasses
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CANARY = "canary_module"
"""A module that leaves a mark when it is imported."""


@dataclasses.dataclass
class Case:
    """One bad input.

    Attributes:
      words: the command line that reads it.
      says: what it is, in a line.
      names: words of which an error has to name one.
      environment: further environment variables.
      fresh: whether the environment is read when modules are imported, so that a new process is needed.
      named: further paths that may be read.
      refused: whether status 0 would be wrong.
    """

    words: list[str]
    says: str
    names: Sequence[str]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    fresh: bool = False
    named: Sequence[Path] = ()
    refused: bool = False


# Values that programs trip over.
NUMBERS: list[Any] = [0, -1, 1, 2, 0.5, -0.0, 10**6, 2**31, 2**63, 2**64, 10**12, 10**30, -(10**12), 1e308, 1e-320]
NUMBERS += [float("nan"), float("inf"), float("-inf")]
WORDS = ["", " ", "none", "null", "True", "nan", "-", "--", "=", "a" * 5000, "\x1b[31m", "ünï", "a\nb", "%s", "{0}"]
WORDS += ["[1", "(1,", "'", '"', "1e999", "0x10", "1_000", "1,2", "[]", "{}", "\U0001f4a5", "é" * 300, "a/b", "a.b.c"]
WORDS += [
    "..",
    "../../..",
    "/",
    "/dev/zero",
    "/dev/null/x",
    "~nosuch/x",
    "$HOME",
    "*",
    "[ab]",
    "a\\b",
    "gs:",
    "gs://a/b",
]
WORDS += [f"{CANARY}:Kind", f"{CANARY}.Kind", "os:system", "builtins:eval", "jaxdiff.checks:require"]
DEEP = 100_000  # nested lists


def odd_value(rng: random.Random) -> Any:
    """A JSON value that its place hardly expects."""
    value: Any = rng.choice(
        [None, True, [], {}, [[]], [None], {"kind": f"{CANARY}:Kind"}, {"kind": None}, {"": ""}, {"a": []}]
    )
    return rng.choice([value, rng.choice(NUMBERS), rng.choice(WORDS), [rng.choice(NUMBERS)] * rng.choice([1, 3, 50])])


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON tree but the whole."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in items for found in ((*path, key), *places(value, (*path, key)))]


def changed_tree(rng: random.Random, tree: Any) -> tuple[Any, str]:
    """A JSON tree with one change, and the change in words."""
    found = places(tree)
    if not found or rng.random() < 0.05:
        value = odd_value(rng)
        return value, f"is {short(value)}"
    path = rng.choice(found)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    where, key = ".".join(map(str, path)), path[-1]
    how = rng.choice(["replaced"] * 6 + ["removed", "renamed", "doubled", "added"])
    if how == "removed":
        del parent[key]
    elif how == "renamed" and isinstance(parent, dict):
        name = rng.choice([*WORDS, f"{key}x"])
        parent[name] = parent.pop(key)
        return tree, f"{where} is called {short(name)}"
    elif how == "doubled" and isinstance(parent, list):
        parent.append(parent[key])
    elif how == "added" and isinstance(parent, dict):
        parent[rng.choice(WORDS)] = odd_value(rng)
    else:
        parent[key] = odd_value(rng)
        return tree, f"{where} is {short(parent[key])}"
    return tree, f"{where} is {how}"


def changed_bytes(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """A file with one change, and the change in words."""
    at = rng.randrange(len(data) + 1)
    n = rng.choice([1, 2, 4, 16, 1000])
    noise = rng.choice([rng.randbytes(n), b"\0" * n, b"\xff" * n, b"9" * n])
    changes = {
        f"is cut at byte {at}": data[:at],
        "is empty": b"",
        f"has {noise[:8]!r}... at byte {at}": data[:at] + noise + data[at + n :],
        f"has {noise[:8]!r}... inserted at byte {at}": data[:at] + noise + data[at:],
        f"lacks {n} bytes at byte {at}": data[:at] + data[at + n :],
        f"has one bit flipped at byte {at}": data[:at]
        + bytes([b ^ 1 << rng.randrange(8) for b in data[at : at + 1]])
        + data[at + 1 :],
        "is doubled": data * 2,
        "begins with a byte order mark": b"\xef\xbb\xbf" + data,
        "is random bytes": rng.randbytes(300),
    }
    says = rng.choice(list(changes))
    return changes[says], says


def changed_json(rng: random.Random, path: Path) -> str:
    """Changes a JSON file, as a tree or as bytes. Returns the change in words."""
    if rng.random() < 0.75:
        tree, says = changed_tree(rng, json.loads(path.read_text()))
        path.write_text(json.dumps(tree))
    elif rng.random() < 0.2:
        opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
        says = f"is {DEEP} nested {opened}"
        path.write_text(opened * DEEP + "1" + closed * DEEP)
    else:
        data, says = changed_bytes(rng, path.read_bytes())
        path.write_bytes(data)
    return f"{path.name} {says}"


def replaced(rng: random.Random, path: Path, canary: Path) -> str:
    """Puts something that is no regular file in the place of a file. Returns the change in words."""
    path.unlink()
    how = rng.choice(["pipe", "device", "link to a secret", "dangling link", "loop", "directory", "nothing"])
    if how == "pipe":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()
    elif how != "nothing":
        targets = {"device": "/dev/zero", "link to a secret": str(canary / "secret"), "loop": path.name}
        path.symlink_to(targets.get(how, "nowhere"))
    return f"{path.name} is a {how}" if how != "nothing" else f"{path.name} is missing"


def short(value: Any) -> str:
    """A value in a few letters."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:50]}... of {len(text)}"
