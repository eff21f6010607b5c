"""Seconds of `import jaxdiff` beyond the import of JAX and NumPy: `python scripts/benchmark/import_time.py`.

Every round is a new process. The least of the rounds is printed, since other work on the machine only adds time.
`--python light/bin/python` measures another environment, such as one with the core alone:

    python3 -m venv light && light/bin/pip install .
"""

import subprocess
import sys
from pathlib import Path

import machine

from jaxdiff.checks import integer
from jaxdiff.cli import command_line

PROGRAM = """
import time
import jax, jax.numpy, numpy
began = time.perf_counter()
import jaxdiff
print(time.perf_counter() - began)
"""


def main(rounds: int = 7, python: Path = Path(sys.executable)) -> None:
    """Measures and prints the seconds.

    Args:
      rounds: the number of processes.
      python: the interpreter that imports.
    """
    integer("rounds", rounds)
    print(machine.describe())

    def measure() -> float:
        return float(subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)

    measure()  # fills the disk cache
    print(f"import jaxdiff: {min(measure() for _ in range(rounds)):.3f} s, the least of {rounds}")


if __name__ == "__main__":
    command_line.run(main)
