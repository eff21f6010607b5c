"""Fixtures: every process, and float64."""

import jax
import pytest
from common import PROCESSES


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
