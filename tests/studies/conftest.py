import os

import pytest
from compiler import FLAGS


@pytest.fixture(autouse=True)
def optimised(monkeypatch):
    """Studies measure time, so the processes that they start compile with all optimisations, as for users."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(FLAGS, ""))
