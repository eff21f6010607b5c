"""Fixtures: every process, and float64. And how tests compile."""

import os

import jax
import pytest
from common import PROCESSES

# Two thirds of the suite's time are compilation, and a quarter of that LLVM's optimisations, which are left out here and
# in the processes that tests start. XLA's own (fusion, algebra) stay on. `common.optimised_jit` and the studies compile
# as users do.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
