"""The fixtures `process` (every process) and `x64` (float64), and the compiler settings of the tests."""

import os

import jax
import pytest
from common import PROCESSES

# Compilation takes two thirds of the suite's time, and LLVM's optimisations take a quarter of that. They are turned off here
# and in the processes that tests start. XLA's own optimisations (fusion, algebra) stay on. `common.optimised_jit` and the
# studies compile as users do.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
