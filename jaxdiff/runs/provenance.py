"""The version of the running code."""

import functools
import importlib.metadata
import subprocess
from pathlib import Path

from jaxdiff.version import __version__

PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def provenance() -> dict[str, str | bool | None]:
    """The versions of jaxdiff and of its dependencies, and the git commit.

    They are looked up once in a process: files may change while it runs, but its code does not.

    Returns:
      The versions by name, `jaxdiff` first; `commit`, None if git does not track the package (for instance if it is
      installed); and `dirty`, whether tracked files differ from that commit.
    """
    names = {"jax": "jax", "jaxlib": "jaxlib", "flax": "flax", "optax": "optax", "orbax": "orbax-checkpoint"}
    # An installed package may lie in an unrelated work tree, so ask whether git tracks its files.
    known = _git(PACKAGE, "ls-files", "--error-unmatch", "__init__.py") is not None
    changes = _git(PACKAGE, "status", "--porcelain", "--untracked-files=no") if known else None
    return {
        "jaxdiff": __version__,
        "commit": _git(PACKAGE, "rev-parse", "HEAD") if known else None,
        "dirty": None if changes is None else bool(changes),
        **{name: importlib.metadata.version(distribution) for name, distribution in names.items()},
    }


def _git(directory: Path, *arguments: str) -> str | None:
    """The output of git, or None if it fails."""
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
