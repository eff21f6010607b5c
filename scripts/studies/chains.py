"""Runs that are ended again and again, and their comparison with a run that is not."""

import json
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image
from processes import Way, final_state, finish, lines, start

RATES = {"time", "images_per_second", "data_wait", "mfu"}


class Chain:
    """One run that is ended and started again.

    Args:
      arguments: the arguments of `train.py`.
      run: the run directory.
      seed: the seed of the random moments.
      way: how the run is started unless `begin` is told another way.
    """

    def __init__(self, arguments: list[str], run: Path, seed: int | str, way: Way | None = None) -> None:
        self.arguments, self.run, self.random = arguments, run, random.Random(seed)
        self.way = way or Way(devices=1)
        self.done: dict[str, int] = {}
        self.began = 0.0
        self._before: set[int] = set()

    def steps(self) -> list[int]:
        """The steps of the checkpoints."""
        checkpoints = self.run / "checkpoints"
        names = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def begin(self, way: Way | None = None, file_size: int | None = None) -> list[subprocess.Popen[str]]:
        """Starts or resumes the run. `file_size` limits the size of the files that it can write."""

        def limited() -> None:
            assert file_size is not None
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        self.began, self._before = time.time(), set(self._unfinished())
        # Calling a function between fork and exec is unsafe beside JAX's threads, so it is done only where needed.
        before = None if file_size is None else limited
        return start(way or self.way, self.arguments, self.run, before)

    def end(self, processes: list[subprocess.Popen[str]], number: signal.Signals, name: str) -> str:
        """Sends a signal to all processes, in random order within 50 milliseconds, and waits for their ends.

        The end is counted under `name`.

        Returns:
          The standard errors, one after the other.

        Raises:
          RuntimeError: the run was over before, or has another status than the signal's.
        """
        if any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            said = "".join(process.communicate()[1][-2000:] for process in processes)
            raise RuntimeError(f"{name}: the run was over before it was ended: {said}")
        for process in self.random.sample(processes, len(processes)):
            process.send_signal(number)
            if len(processes) > 1:
                time.sleep(self.random.uniform(0, 0.05))
        said = "".join(process.communicate(timeout=120)[1] for process in processes)
        if number == signal.SIGTERM and {process.returncode for process in processes} != {143}:
            raise RuntimeError(f"SIGTERM: statuses {[p.returncode for p in processes]}: {said[-2000:]}")
        self.done[name] = self.done.get(name, 0) + 1
        return said

    def wait_for(self, processes: list[subprocess.Popen[str]], step: int) -> None:
        """Waits until these processes have logged the step, or one of them has ended."""
        while _alive(processes) and self.logged(since=self.began) < step:
            time.sleep(0.002)

    def logged(self, since: float = 0.0) -> int:
        """The newest step in metrics.jsonl that was logged at `since` or later; 0 if there is none."""
        found = [line for line in lines(self.run)[-1:] if line["time"] >= since]
        return int(found[-1]["step"]) if found else 0

    def further(self, most: int) -> int:
        """A random step, at most `most` steps after the newest checkpoint."""
        return max(self.steps(), default=0) + self.random.randint(1, most)

    def killed_while_it_starts(self, seconds: float) -> None:
        """Ends the run by SIGKILL, at a random moment of its first seconds."""
        processes = self.begin()
        time.sleep(self.random.uniform(0, seconds))
        self.end(processes, signal.SIGKILL, "SIGKILL at the start")

    def killed(self) -> None:
        """Ends the run by SIGKILL, at a random moment."""
        processes = self.begin()
        self.wait_for(processes, self.further(30))
        time.sleep(self.random.uniform(0, 0.03))
        self.end(processes, signal.SIGKILL, "SIGKILL")

    def killed_in_a_save(self) -> None:
        """Ends the run by SIGKILL while a checkpoint is being written, after a new one that is whole."""
        before = self.steps()
        processes = self.begin()
        while _alive(processes) and not (self.steps() != before and self.saving()):
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, 0.02))
        self.end(processes, signal.SIGKILL, "SIGKILL in a save")

    def saving(self) -> bool:
        """Whether a save that began after `begin` is unfinished."""
        return not self._before.issuperset(self._unfinished())

    def _unfinished(self) -> list[int]:
        """The inodes of the directories of unfinished saves that hold arrays already."""
        found = []
        for path in (self.run / "checkpoints").glob("tmp.*"):
            try:
                if any(path.glob("state*/*")):
                    found.append(path.stat().st_ino)
            except FileNotFoundError:  # finished in the meantime
                continue
        return found

    def finished(self, way: Way | None = None) -> None:
        """Runs to the last step."""
        finish(self.begin(way))


def _alive(processes: list[subprocess.Popen[str]]) -> bool:
    return all(process.poll() is None for process in processes)


def place(run: Path) -> dict[str, object]:
    """The iterator state of the last checkpoint: the place in the data, and the metrics not yet logged."""
    newest = max((path for path in (run / "checkpoints").iterdir() if path.name.isdecimal()), key=lambda p: int(p.name))
    return json.loads((newest / "meta.json").read_text())["iterator"]


def metrics(run: Path) -> list[dict[str, float]]:
    """The lines of metrics without the rates, which differ from run to run."""
    return [{name: value for name, value in line.items() if name not in RATES} for line in lines(run)]


def same(run: Path, reference: Path) -> None:
    """Raises a RuntimeError unless both runs agree to the bit."""
    state, wanted = final_state(run), final_state(reference)
    differing = [n for n in wanted if n not in state or state[n].tobytes() != wanted[n].tobytes()]
    if differing or state.keys() != wanted.keys():
        raise RuntimeError(f"{len(differing)} of {len(wanted)} leaves differ: {', '.join(differing[:5])}")
    if place(run) != place(reference):
        raise RuntimeError(f"place in the data: {place(run)}, not {place(reference)}")
    if metrics(run) != metrics(reference):
        raise RuntimeError("the metrics differ")
    # The pictures carry the names of their runs, so that their files differ.
    found, expected = (np.asarray(Image.open(at / "samples" / "final.png")) for at in (run, reference))
    if not np.array_equal(found, expected):
        raise RuntimeError("the last picture differs")
