"""Keeps compiled programs on disk, so that a second start does not wait for the compiler."""

import os
import sys
from pathlib import Path

import jax

from jaxdiff.distributed import all_devices


def enable() -> None:
    """Turns on JAX's persistent compilation cache, in `jaxdiff/xla` of the user's cache directory.

    Call this function before anything is compiled. The user's own settings stand: a cache directory, or a cache turned
    off by `JAX_ENABLE_COMPILATION_CACHE=0` or by an empty `JAX_COMPILATION_CACHE_DIR`. If the directory cannot be
    written, there is no cache.

    The cache holds programs that took longer than a second to compile. JAX names a program by its target too, down to
    the CPU's instructions, so different machines may share the directory. The directory grows, and may be deleted at
    any time.
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


def disable_in_jobs_on_cpus() -> None:
    """Turns the cache off in a job of several processes on CPUs.

    There every process names its programs by other keys, and JAX writes those of the first one alone. At a later start
    the others compile, while the first one, which has read its program, waits for them. Gloo waits for 30 seconds only.

    Raises:
      ValueError: JAX has no device.
    """
    if all_devices()[0].platform == "cpu" and jax.process_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)


def default_directory() -> Path:
    """`jaxdiff/xla` in `$XDG_CACHE_HOME`, or in `~/Library/Caches` on macOS and `~/.cache` elsewhere.

    Raises:
      RuntimeError: the user has no home directory.
    """
    # The XDG Base Directory Specification says to ignore relative paths.
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not chosen.is_absolute():
        chosen = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return chosen / "jaxdiff" / "xla"
