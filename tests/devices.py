"""What tests need that start processes of their own: forced devices, a port."""

import os
import socket
from pathlib import Path

ROOT = Path(__file__).parents[1]


def forced(devices):
    """The environment of a process with so many CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
