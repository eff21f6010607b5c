"""The fixtures `process` (every process) and `x64` (float64), and the compiler settings of the tests."""

import os
import shutil
import tempfile

import jax
import pytest
from common import PROCESSES
from compiler import compile_quickly

compile_quickly()


def pytest_configure(config):
    """The workers, and the processes that tests start, share compiled programs; unless the user has a cache already."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    config.shared_programs = tempfile.mkdtemp(prefix="jaxdiff-tests-")
    options = {
        "jax_compilation_cache_dir": config.shared_programs,
        "jax_persistent_cache_min_compile_time_secs": "0.1",
        "jax_persistent_cache_min_entry_size_bytes": "-1",
    }
    os.environ.update({name.upper(): value for name, value in options.items()})  # workers inherit it
    jax.config.update("jax_compilation_cache_dir", options["jax_compilation_cache_dir"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_unconfigure(config):
    """The process that made the directory removes it."""
    if hasattr(config, "shared_programs"):
        shutil.rmtree(config.shared_programs, ignore_errors=True)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
