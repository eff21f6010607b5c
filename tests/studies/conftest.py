import pytest


@pytest.fixture(autouse=True)
def optimised(monkeypatch):
    """Studies measure time, so the processes that they start compile with all optimisations, as for users."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
