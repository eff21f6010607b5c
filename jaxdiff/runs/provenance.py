"""Which code is running."""

import functools
import importlib.metadata
import subprocess
from pathlib import Path

from jaxdiff.version import __version__

PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def provenance() -> dict[str, str | bool | None]:
    """The versions of jaxdiff and of what it rests on, and the commit it was taken from.

    `commit` is None where the package is not under git's care, such as in an installed one; `dirty` says whether files
    that git knows differ from that commit. Looked up once a process: files may change while it runs, its code does not.
    """
    names = {"jax": "jax", "jaxlib": "jaxlib", "flax": "flax", "optax": "optax", "orbax": "orbax-checkpoint"}
    package = PACKAGE
    # An installed package may well lie below somebody else's work tree: what counts is whether git knows its files.
    known = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    changes = _git(package, "status", "--porcelain", "--untracked-files=no") if known else None
    return {
        "jaxdiff": __version__,
        "commit": _git(package, "rev-parse", "HEAD") if known else None,
        "dirty": None if changes is None else bool(changes),
        **{name: importlib.metadata.version(distribution) for name, distribution in names.items()},
    }


def _git(directory: Path, *arguments: str) -> str | None:
    """What git answers, or None if it does not."""
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
