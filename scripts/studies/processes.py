"""Training runs as users start them: `scripts/train.py` in processes of its own, and the files that it writes."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jaxdiff.runs.checkpoints import Checkpoints

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
DISTILLATION = Path(__file__).resolve().with_name("distillation.py")


@dataclasses.dataclass(frozen=True)
class Way:
    """How a run is started.

    Attributes:
      flags: further flags of `train.py`.
      devices: the number of CPU devices of each process.
      processes: the number of processes.
    """

    flags: str = ""
    devices: int = 8
    processes: int = 1


def start(
    way: Way, arguments: list[str], run: Path, before: Callable[[], None] | None = None
) -> list[subprocess.Popen[str]]:
    """Starts the processes of one training run. Each of them calls `before` first."""
    flags = f"--xla_force_host_platform_device_count={way.devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(TRAIN), *arguments, *way.flags.split(), "--run-dir", str(run)]
    started = []
    for process in range(way.processes):
        several = ["--coordinator", f"localhost:{port}", "--processes", str(way.processes), "--process", str(process)]
        started.append(
            subprocess.Popen(
                command + (several if way.processes > 1 else []),
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=before,
            )
        )
    return started


def finish(processes: list[subprocess.Popen[str]], timeout: float = 1200) -> None:
    """Waits for all processes.

    Raises:
      RuntimeError: a process failed. The error contains the end of its output.
    """
    said = [process.communicate(timeout=timeout)[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"status {process.returncode}: {text[-3000:]}")


def train_teacher(run: Path, steps: int) -> list[str]:
    """Trains the teacher of `distillation.py`, and returns arguments of `train.py` that train its student."""
    short = ["--train.steps", str(steps), "--train.checkpoint-every", str(steps), "--sample.steps", "2"]
    finish(start(Way(devices=1), [str(DISTILLATION), "--objective.kind", "Denoising", *short], run))
    return [str(DISTILLATION), "--objective.teacher", str(run)]


def lines(run: Path) -> list[dict[str, float]]:
    """The complete lines of metrics.jsonl."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def final_state(run: Path) -> dict[str, np.ndarray]:
    """Every leaf of the last checkpoint, by name."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        _, parts, _ = checkpoints.restore_parts()
    parts["key"] = jax.random.key_data(parts["key"])
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(parts)}
