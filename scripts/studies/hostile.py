"""Tries bad inputs and says which of them do harm: `python scripts/studies/hostile.py --seed 0`.

`hostile_inputs` draws them: flags, settings of runs, checkpoints, pictures, TFDS sets, arrays, and environments. A
command that reads one of them has to end with status 2 and one line that names the thing, or to succeed, within 10
seconds. It must not raise a traceback, abort, hang, run code that the input names, or touch a file that nobody named.

The commands run in forks (`sandbox`). `--only SORT --number N` tries one input again and prints all of its output.
"""

import dataclasses
import functools
import importlib
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import hostile_inputs
import jax
import sandbox
from hostile_inputs import SORTS, Case

import jaxdiff
from jaxdiff import data
from jaxdiff.cli import command_line, ema, sample, train
from jaxdiff.data import Dataset, Digits
from jaxdiff.distributed import hosts

# Commands import these modules when they need them. Here they are imported once.
MODULES = ("jaxdiff.runs.load", "jaxdiff.runs.loop", "jaxdiff.data.tfds_reading")

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
LONGEST = 2100  # letters of a line, with `error: ` before it and dots after it


@dataclasses.dataclass(frozen=True)
class Reading:
    """The data set that `read` reads."""

    data: Dataset = Digits()
    """The examples."""


def read(arguments: Reading) -> None:
    """Opens a data set and reads every record, as the command `train` does."""
    examples = data.in_memory(arguments.data.open())
    print(len(examples), examples.identity())


COMMANDS: dict[str, Callable[[Sequence[str]], object]] = {
    "train": train.main,
    "sample": sample.main,
    "ema": ema.main,
    "read": lambda words: command_line.run(read, words, prog="read"),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The inputs that are tried."""

    seed: int = 0
    """The seed of all inputs."""
    inputs: int = 1000
    """The number of inputs."""
    timeout: float = 10.0
    """Seconds after which a command hangs."""
    only: str = ""
    """The sort of inputs; empty for all."""
    number: int | None = None
    """The number of a single input, whose output is shown."""
    root: Path | None = None
    """A directory for the real files, which is kept; none for a temporary one."""


def run(case: Case, made: Path, own: Path, timeout: float) -> sandbox.End:
    """Runs the command of a case."""
    environment = {"TMPDIR": str(own), "HOME": str(own), **case.environment}

    def command() -> None:
        tempfile.tempdir = None
        os.environ.update(environment)
        if case.fresh:
            os.environ["PYTHONPATH"] = str(Path(jaxdiff.__file__).parents[1])
            os.execv(sys.executable, [sys.executable, str(TRAIN), *case.words[1:]])
        # Other processes are waited for during a minute. Here there are none.
        hosts.joined = functools.partial(hosts.joined, join_timeout=3)
        COMMANDS[case.words[0]](case.words[1:])

    cache = Path(jax.config.values["jax_compilation_cache_dir"])
    readable = (made / "run", made / "preset.py", made / "__pycache__", made / "modules", *case.named)
    training = own / "run" / "metrics.jsonl" if case.words[0] == "train" and not (own / "run").exists() else None
    if case.fresh:  # nothing is imported or compiled yet
        return sandbox.run(command, own, readable, (cache,), timeout=3 * timeout)
    return sandbox.run(command, own, readable, (cache,), timeout=timeout, training=training)


def fault(case: Case, end: sandbox.End) -> str | None:
    """What is wrong with the end of a command, in words; None if nothing is."""
    errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
    touched = [line for line in end.touched if not (case.fresh and line.startswith("os.exec"))]
    if end.hung:
        return "hangs"
    if touched:
        return f"touches what nobody named: {touched[0]}"
    if end.status < 0:
        return f"is ended by signal {-end.status}"
    if "Traceback (most recent call last)" in end.err:
        return f"traceback: {end.err.strip().splitlines()[-1][:200]}"
    if end.status == 0:
        return "is accepted" if case.refused else None
    if end.status == 143:
        return None
    if end.status != 2:
        return f"status {end.status}: {end.err[-200:]}"
    if len(errors) != 1:
        return f"{len(errors)} lines of error"
    if len(errors[0]) > LONGEST:
        return f"a line of {len(errors[0])} letters"
    if not any(name in errors[0] for name in case.names):
        return f"names nothing: {errors[0][:200]}"
    return None


def state_of(directory: Path) -> list[tuple[str, int, int]]:
    """The names, sizes and times of everything below a directory."""
    found = [(path, path.lstat()) for path in sorted(directory.rglob("*"))]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found if path.name != "__pycache__"]


def counts(arguments: Arguments) -> dict[str, range]:
    """The numbers of the inputs of each sort."""
    if arguments.number is not None:
        return {arguments.only: range(arguments.number, arguments.number + 1)}
    shares = {sort: share for sort, (_, share) in SORTS.items() if arguments.only in ("", sort)}
    return {sort: range(max(1, arguments.inputs * share // sum(shares.values()))) for sort, share in shares.items()}


def main(arguments: Arguments) -> None:
    """Tries the inputs, and prints a table and the faults."""
    warnings.filterwarnings("ignore", module="PIL")  # of pictures that are made badly here
    root = Path(tempfile.mkdtemp()) if arguments.root is None else arguments.root.absolute()
    try:
        faults = try_all(arguments, root)
    finally:
        if arguments.root is None:
            shutil.rmtree(root, ignore_errors=True)
    if faults:
        raise SystemExit(1)


def try_all(arguments: Arguments, root: Path) -> int:
    """Tries the inputs below a directory. Returns the number of faults."""
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for a command in a new process
    jax.config.update("jax_disable_most_optimizations", True)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    for module in MODULES:
        importlib.import_module(module)
    made, began = root / "made", time.monotonic()
    if not made.exists():
        prepare(made, root)
    sys.path.append(str(made / "modules"))
    print(f"{'sort':20}{'inputs':>8}{'refused':>10}{'harmless':>10}{'faults':>10}{'seconds':>10}", flush=True)
    faults = 0
    for sort, numbers in counts(arguments).items():
        ends, found, start = list[str](), list[str](), time.monotonic()
        for number in numbers:
            rng = random.Random(f"{arguments.seed} {sort} {number}")
            own = Path(tempfile.mkdtemp(dir=root)) / "own"
            own.mkdir()
            before = state_of(made)
            try:
                case = SORTS[sort][0](rng, made, own)
                end = run(case, made, own, arguments.timeout)
            finally:
                shutil.rmtree(own.parent, ignore_errors=True)
            wrong = fault(case, end) or ("changes what nobody named" if state_of(made) != before else None)
            ends.append("fault" if wrong else "refused" if end.status == 2 else "harmless")
            if wrong:
                found.append(f"{sort} {number}: {case.words[0]}: {case.says}\n      {wrong}")
                (made / "canary" / "executed").unlink(missing_ok=True)  # the mark of code that has run
            if arguments.number is not None:
                print(case, end.out, end.err, *end.touched, f"status {end.status}, {end.seconds:.1f} s", sep="\n")
        counted = "".join(f"{ends.count(how):10}" for how in ("refused", "harmless", "fault"))
        print(f"{sort:20}{len(ends):8}{counted}{time.monotonic() - start:10.0f}", *found, sep="\n  ", flush=True)
        faults += len(found)
    print(f"seed {arguments.seed}: {faults} faults in {time.monotonic() - began:.0f} s")
    return faults


def prepare(made: Path, root: Path) -> None:
    """Writes the real files in a fork: a process with devices or threads could not be forked."""
    own = root / "preparing"
    own.mkdir(parents=True)
    cache = Path(jax.config.values["jax_compilation_cache_dir"])
    end = sandbox.run(lambda: hostile_inputs.make(made, train.main), own, (), (root, cache), timeout=300)
    if end.status:
        raise RuntimeError(f"the real files cannot be made: {end.err[-2000:]}")


if __name__ == "__main__":
    command_line.run(main)
