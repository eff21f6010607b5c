"""The package as a whole: the weight of its import, and the floors of the house."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import jaxdiff

PACKAGE = Path(jaxdiff.__file__).parent
ROOT = PACKAGE.parent

# The rooms, floor by floor, from the ground up. A file may import from its own floor and from those below it.
FLOORS = (
    ("checks", "version", "files", "arithmetic", "batch_generator", "trees", "averages", "components"),
    ("processes", "parametrizations", "denoisers"),
    ("solvers", "probability_flow", "sampling", "grids", "likelihood", "objectives"),
    ("guidance",),
    ("training", "media"),
    ("data", "distributed", "logging"),
    ("conditions", "codecs", "augmentations"),
    ("models",),
    ("evaluation",),
    ("runs",),
    ("presets", "cli"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Within `runs` the store lies below the work that uses it.
STORE = {
    "config", "config_checks", "facts", "directory", "compatibility", "checkpoints", "snapshots", "parts", "provenance",
    "recipe", "load", "settings", "differences",
}  # fmt: skip
HEAVY = {
    "diffrax", "equinox", "flax", "grain", "optax", "orbax", "PIL", "sklearn", "tensorflow", "tensorflow_datasets",
}  # fmt: skip


def test_importing_is_light():
    """Nothing heavier than JAX, NumPy and SciPy; the seconds are told by `scripts/benchmark/import_time.py`."""
    program = "import sys, jaxdiff; print(*{name.split('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(out.stdout.split())


def test_every_name_of_the_front_door_is_there_on_first_use():
    """Also those whose modules `import jaxdiff` leaves alone; an editor lists them by `dir`."""
    assert set(jaxdiff.__all__) <= set(dir(jaxdiff))
    for name in jaxdiff.__all__:
        assert getattr(jaxdiff, name) is not None
    assert jaxdiff.training.make_step is importlib.import_module("jaxdiff.training").make_step
    with pytest.raises(AttributeError, match="module 'jaxdiff' has no attribute 'trainer'"):
        _ = jaxdiff.trainer


def _imports():
    """For each file of the package, as a dotted name, the files of the package that it imports, wherever it does so."""
    files = {_name(path): path for path in PACKAGE.rglob("*.py")}
    found = {}
    for name, path in files.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from jaxdiff.runs import loop` imports the file `loop` where there is one, else a name of `runs`.
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {one if one in files else node.module for one in inner}
        found[name] = {target for target in targets if target in files} - {name}
    return found


def _name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


IMPORTS = _imports()


def _floor(name):
    """The floor of a file, and the half of it."""
    room, *rest = name.split(".")[1:]
    return FLOOR_OF[room], int(room == "runs" and bool(rest) and rest[0] not in STORE)


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_imports_run_downward(name):
    for target in IMPORTS[name]:
        if name == "jaxdiff":
            continue  # the front door shows all floors
        assert target != "jaxdiff", f"{name} imports the front door"
        room, other = name.split(".")[1], target.split(".")[1]
        if room == "networks":
            assert other in ("networks", *FLOORS[0]), f"{name} imports {target}: networks know nothing of processes"
        elif other == "networks":
            assert room in ("conditions", "models", "runs", "presets"), (
                f"{name} imports {target}: no process knows a network"
            )
        else:
            assert _floor(target) <= _floor(name), f"{name} imports {target}, from a floor above"


def test_imports_have_no_circle():
    """File by file; a folder's `__init__` counts as a file that imports what it shows."""
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, f"circle: {' -> '.join([*under_way[under_way.index(name) :], name])}"
        if name not in done:
            under_way.append(name)
            for target in sorted(IMPORTS[name]):
                visit(target)
            under_way.pop()
            done.add(name)

    for name in IMPORTS:
        visit(name)


def test_files_are_small():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, f"{path} has more than 400 lines"


def test_public_things_are_documented():
    """Every public function and class says in its first line what it is, and not where to look."""
    folders = [PACKAGE, ROOT / "scripts", ROOT / "configs"]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} has no docstring"
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                assert summary, f"{path}: {node.name} has no docstring"
                assert not summary.lower().startswith(("see ", "attributes:", "as `")), (
                    f"{path}: {node.name}: {summary}"
                )
