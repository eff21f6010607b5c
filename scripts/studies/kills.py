"""Kills short runs a hundred times and compares them with runs left alone: `python scripts/studies/kills.py --seed 0`.

A run of `toy2d` is trained on one device, on eight forced devices, and in two processes over Gloo. It is ended by
SIGKILL again and again, a third of the times while it starts, a third after a random step, and a third during a save.
In the end every leaf of the state, the place in the data, the metrics and the last picture must be equal, to the bit,
to those of a run that was left alone.

The runs lie below `--root`. The same command again goes on after the last finished run, and prints the same table.
"""

import dataclasses
import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chains import Chain, same
from processes import Way

from jaxdiff.cli import command_line

WAYS = {
    "one device": Way(devices=1),
    "8 devices, data 2 x fsdp 4": Way("--parallel.fsdp 4", 8),
    "2 processes": Way(devices=1, processes=2),
}
SHARES = {"one device": 0.6, "8 devices, data 2 x fsdp 4": 0.2, "2 processes": 0.2}
EACH = 10  # kills of one run
STEPS = 40  # for each kill
TINY = ["--model.network.width", "32", "--model.network.num-blocks", "1", "--train.batch-size", "64", "--data.n", "640"]
TINY += ["--train.log-every", "1", "--train.checkpoint-every", "10", "--train.sample-every", "0", "--sample.steps", "2"]
TINY += ["--train.ema-widths", "0.1", "--optimizer.schedule", "constant"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The kills."""

    seed: int = 0
    """The seed of the random moments."""
    kills: int = 100
    """The number of kills."""
    root: Path = Path("runs/kills")
    """The directory of the runs, and of what is known so far."""


def main(arguments: Arguments) -> None:
    """Kills runs in three ways, and prints a table."""
    root = arguments.root.absolute()
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    print(f"{'way':28}{'runs':>6}{'kills':>7}{'in saves':>10}{'equal':>7}{'minutes':>9}", flush=True)
    wrong: list[str] = []
    for name, way in WAYS.items():
        kills = round(arguments.kills * SHARES[name])
        whole = once(root / name / "alone", functools.partial(left_alone, way=way))
        found = [
            once(
                root / name / f"seed {arguments.seed}, run {i}, {most} kills",
                functools.partial(killed, way=way, kills=most, whole=whole, seed=arguments.seed),
            )
            for i, most in enumerate(min(EACH, kills - first) for first in range(0, kills, EACH))
        ]
        total = {key: sum(known[key] for known in found) for key in ("kills", "in saves", "seconds")}
        equal = [known["differs"] for known in found].count("")
        print(
            f"{name:28}{len(found):6}{total['kills']:7}{total['in saves']:10}{equal:7}{total['seconds'] / 60:9.1f}",
            flush=True,
        )
        wrong += [f"{name}, run {i}: {known['differs']}" for i, known in enumerate(found) if known["differs"]]
    print(f"seed {arguments.seed}: {'; '.join(wrong) or 'every run equals the run left alone, to the bit'}")
    if wrong:
        raise SystemExit(1)


def once(run: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What `make` finds about a run. It is kept beside the run, and made again only if it is absent."""
    known = run.with_name(f"{run.name}.json")
    if not known.exists():
        shutil.rmtree(run, ignore_errors=True)
        began = time.time()
        found = {"run": str(run), **make(run), "seconds": time.time() - began}
        known.write_text(json.dumps(found))
    return json.loads(known.read_text())


def left_alone(run: Path, way: Way) -> dict[str, Any]:
    """Trains a run without interruption. Returns the seconds until its first step, once programs are compiled."""
    line = ["toy2d", *TINY, "--train.steps", str(STEPS * EACH)]
    Chain(line, run, 0, way).finished()
    warm = Chain(line, run.with_name("warm"), 0, way)
    processes = warm.begin()
    warm.wait_for(processes, 1)
    seconds = time.time() - warm.began
    warm.end(processes, signal.SIGKILL, "SIGKILL")
    return {"start": seconds}


def killed(run: Path, way: Way, kills: int, whole: dict[str, Any], seed: int) -> dict[str, Any]:
    """Kills a run, resumes it until it ends, and compares it with the run left alone."""
    chain = Chain(["toy2d", *TINY, "--train.steps", str(STEPS * EACH)], run, f"{seed} {run.name}", way)
    in_saves = 0
    for number in range(kills):
        if number % 3 == 0:
            chain.killed_in_a_save()
        elif number % 3 == 1:
            chain.killed()
        else:
            chain.killed_while_it_starts(whole["start"])
        in_saves += chain.saving()
    reached = chain.logged()
    chain.finished()
    try:
        same(run, Path(whole["run"]))
    except RuntimeError as error:
        return {"kills": kills, "in saves": in_saves, "reached": reached, "differs": str(error)}
    return {"kills": kills, "in saves": in_saves, "reached": reached, "differs": ""}


if __name__ == "__main__":
    command_line.run(main)
