import pytest


@pytest.fixture(autouse=True)
def optimised(monkeypatch):
    """What a study starts is timed, and compiles as it does for anybody."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
