"""Runs the code of docs/six_tasks.md: `python scripts/benchmark/six_tasks.py`.

A block of code on the page says after "```python" which library it uses and which task it does. The blocks of a library
make one program: what is given, then the tasks in the order of the page. The program runs in a folder of its own, with
the interpreter of the library's environment (`make_environment.py`); jaxdiff's runs with this interpreter. After a
task, its result must have the right shape and finite values. The script prints the table of the page.
"""

import datetime
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from make_environment import ROOT, python_of

from jaxdiff.cli import command_line

PAGE = ROOT / "docs" / "six_tasks.md"
LIBRARIES = {
    "ours": "jaxdiff",
    "diffusers": "diffusers",
    "azula": "azula",
    "hackable_diffusion": "hackable-diffusion",
    "dewml": "dewml",
}
TASKS = {
    "sample": "sample from a function",
    "train": "train on arrays",
    "guidance": "guidance",
    "likelihood": "likelihood",
    "swap": "swap a solver",
    "load": "load and sample",
}
# The length of a result, by its name.
RESULTS = {"points": 1000, "threes": 16, "images": 16, "nats": 100}

CHECK = """
def _check(task, name, value, length):
    import numpy

    array = numpy.asarray(value)
    assert len(array) == length and numpy.isfinite(array).all(), f"{task}: {name} is wrong: {array.shape}"
    if name == "points" and "guidance" not in task:
        assert abs(array.mean()) < 0.15 and abs(array.std() - 1) < 0.15, f"{task}: {array.mean()}, {array.std()}"
    print(f"{task}: {name} {array.shape}, mean {array.mean():.3f}, standard deviation {array.std():.3f}", flush=True)
"""


def blocks(library: str, page: str | None = None) -> dict[str, str]:
    """The code of a library, by task; what is given comes first.

    Args:
      library: its name on the page.
      page: the text of the page; None to read it.
    """
    text = PAGE.read_text(encoding="utf-8") if page is None else page
    found = re.findall(r"```python (\w+) (\w+)\n(.*?)```", text, flags=re.DOTALL)
    mine = {task: code for name, task, code in found if name == library}
    return dict(sorted(mine.items(), key=lambda item: not item[0].startswith("given")))


def lines(code: str) -> int:
    """The number of lines of code that are neither blank nor a comment nor an import."""
    kept = (line.strip() for line in code.splitlines())
    return sum(bool(line) and not line.startswith(("#", "import ", "from ")) for line in kept)


def table(page: str | None = None) -> str:
    """The number of lines of each library for each task, as a table in Markdown."""
    code = {library: blocks(library, page) for library in LIBRARIES}
    rows = [["task", *("jaxdiff" if library == "ours" else library for library in code)], ["---"] * (len(code) + 1)]
    for task, title in TASKS.items():
        rows.append([title, *(str(lines(c[task])) if task in c else "not offered" for c in code.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("| --- ", "|---").replace("--- |", "---|")


def program(library: str) -> str:
    """The whole program of a library, with a check after each task."""
    parts = [CHECK]
    for task, code in blocks(library).items():
        parts.append(code)
        names = (
            [] if task.startswith("given") else [name for name in RESULTS if re.search(rf"^ *{name} = ", code, re.M)]
        )
        parts += [f"_check({task!r}, {name!r}, {name}, {RESULTS[name]})\n" for name in names]
    return "\n".join(parts)


def main(only: Literal["all", "ours", "diffusers", "azula", "hackable_diffusion", "dewml"] = "all") -> None:
    """Runs the code and prints versions and the table.

    Args:
      only: the library whose code runs.
    """
    for library in LIBRARIES if only == "all" else (only,):
        python = Path(sys.executable) if library == "ours" else python_of(library)
        if not python.exists():
            raise FileNotFoundError(f"{python} is missing: `python scripts/benchmark/make_environment.py {library}`")
        ask = "import importlib.metadata as m, platform, sys; print(m.version(sys.argv[1]), platform.python_version())"
        answer = subprocess.check_output([str(python), "-c", ask, LIBRARIES[library]], text=True).split()
        print(f"\n{LIBRARIES[library]} {answer[0]}, Python {answer[1]}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "six_tasks.py"
            path.write_text(program(library), encoding="utf-8")
            # With one thread PyTorch does not wait for threads that a busy machine has not started.
            alone = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([str(python), str(path)], cwd=folder, env=alone, check=True)
    print(f"\n{datetime.date.today().isoformat()}\n\n{table()}")


if __name__ == "__main__":
    command_line.run(main)
