"""Compiled programs kept on disk, so that a second start need not wait for the compiler."""

import os
import sys
from pathlib import Path

import jax


def enable() -> None:
    """Turns JAX's persistent compilation cache on, in `jaxdiff/xla` of the user's cache directory.

    A cache directory that the user has set is left as it is, and so is a cache that they have turned off
    (`JAX_ENABLE_COMPILATION_CACHE=0`, or an empty `JAX_COMPILATION_CACHE_DIR`). Where the directory cannot be written
    to, everything is compiled anew. To be called before anything is compiled.

    What a program was compiled for, the CPU's instructions too, is part of the name that JAX gives it, so machines of
    different kinds may share the directory. It holds programs that took longer than a second to compile. It grows, and
    may be deleted at any time.
    """
    settings = jax.config.values
    chosen = "JAX_COMPILATION_CACHE_DIR" in os.environ or settings["jax_compilation_cache_dir"] is not None
    if chosen or not settings["jax_enable_compilation_cache"]:
        return
    try:
        directory = default_directory()
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))


def default_directory() -> Path:
    """`jaxdiff/xla` in `$XDG_CACHE_HOME`, or in `~/Library/Caches` on macOS and `~/.cache` elsewhere.

    Raises:
      RuntimeError: the user has no home directory.
    """
    # An entry that is no absolute path is to be ignored: XDG Base Directory Specification.
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not chosen.is_absolute():
        chosen = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return chosen / "jaxdiff" / "xla"
