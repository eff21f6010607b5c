"""Helpers for tests that start processes: forced devices, a free port."""

import os
import socket
from pathlib import Path

from compiler import FLAGS

ROOT = Path(__file__).parents[1]


def forced(devices):
    """The environment of a process with the given number of CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices} {FLAGS}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
