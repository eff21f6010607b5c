"""What tests need that start processes of their own: forced devices, a port."""

import os
import socket
from pathlib import Path

ROOT = Path(__file__).parents[1]


def forced(devices):
    """The environment of a process with so many CPU devices; the other two flags spare most of the time to compile."""
    flags = [f"force_host_platform_device_count={devices}"]
    flags += ["backend_optimization_level=0", "llvm_disable_expensive_passes=true"]
    made = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": " ".join(f"--xla_{flag}" for flag in flags)}
    return os.environ | made


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
