"""The machine that a benchmark runs on, and the other packages that it may measure."""

import datetime
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import types
from pathlib import Path
from typing import Any


def describe() -> str:
    """The processor, memory, versions and date, in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    try:
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        memory = ""
    found = [f"Python {platform.python_version()}"]
    for name in ("jax", "jaxlib", "flax", "numpy", "torch", "diffusers", "k-diffusion"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{processor}, {os.cpu_count()} cores{memory}; {', '.join(found)}; {datetime.date.today().isoformat()}"


def peer(name: str) -> Any:
    """Imports a package of the environment `peers`; None, after a printed line, if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is left out: {error}; `python scripts/benchmark/make_environment.py peers` installs it")
        return None


def k_diffusion_sampling() -> Any:
    """Imports `k_diffusion.sampling`; None, after a printed line, if it is not installed.

    The package's `__init__` also imports its training and evaluation, with two dozen more dependencies. The samplers
    need only `utils.append_dims` of these, so this function defines it and skips the rest.
    """
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None:
        return peer("k_diffusion")
    package: Any = types.ModuleType("k_diffusion")
    package.__path__ = spec.submodule_search_locations
    utilities: Any = types.ModuleType("k_diffusion.utils")
    utilities.append_dims = lambda x, dimensions: x[(...,) + (None,) * (dimensions - x.ndim)]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utilities}
    package.utils = utilities
    return peer("k_diffusion.sampling")
