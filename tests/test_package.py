"""The package as a whole: what it needs, the weight of its import, and the floors of the house."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from without_extras import WITHOUT_EXTRAS

import jaxdiff
from jaxdiff.extras import PACKAGES, needed

PACKAGE = Path(jaxdiff.__file__).parent
ROOT = PACKAGE.parent

# The rooms, floor by floor, from the ground up. A file may import from its own floor and from those below it.
FLOORS = (
    (
        "checks",
        "errors",
        "extras",
        "jitted",
        "loops",
        "version",
        "files",
        "json_files",
        "arithmetic",
        "batch_generator",
        "trees",
        "tiles",
        "averages",
        "components",
    ),
    ("processes", "parametrizations", "denoisers"),
    ("solvers", "probability_flow", "sampling", "grids", "likelihood", "objectives"),
    ("guidance", "posterior"),
    ("training", "media"),
    ("data", "distributed", "logging"),
    ("conditions", "codecs", "augmentations"),
    ("models",),
    ("evaluation", "interop"),
    ("runs",),
    ("presets", "cli", "__main__"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Within `runs` the store lies below the work that uses it.
STORE = {
    "config", "config_checks", "facts", "directory", "compatibility", "checkpoints", "snapshots", "parts", "provenance",
    "recipe", "load", "settings", "differences", "place",
}  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {"jax", "numpy", "scipy", "jaxtyping"}


def test_importing_is_light():
    """Nothing heavier than JAX, NumPy and SciPy; the seconds are told by `scripts/benchmark/import_time.py`."""
    program = "import sys, jaxdiff; print(*{name.split('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {*PACKAGES, "tensorflow"} & set(out.stdout.split())


def _packages(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def test_every_import_is_declared():
    """The core and each extra bring what the files import, and nothing else."""
    extras = {name: _packages(lines) for name, lines in PROJECT["optional-dependencies"].items()}
    assert _packages(PROJECT["dependencies"]) == CORE
    for package, extra in PACKAGES.values():
        assert extra == "tpu" or package in extras[extra], f"{package} is not in the extra {extra}"
    brought = {package for extra in ("interop", "train", "wandb", "watermark") for package in extras[extra]}
    # TFDS reads with ArrayRecord, and no file of ours imports it. An extra may bring another extra.
    assert brought - {package for package, _ in PACKAGES.values()} == {"array-record", "jaxdiff"}

    imported = set()
    for path in PACKAGE.rglob("*.py"):
        outside = {name for name in _outside(path) if name not in sys.stdlib_module_names}
        assert outside <= {"jaxdiff", *CORE, *PACKAGES}, path
        imported |= outside
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "networks" and FLOOR_OF.get(room, 0) <= FLOOR_OF["guidance"]:
            allowed = {"generate.py": {"tqdm"}}.get(path.name, set())
            assert outside <= {"jaxdiff", *CORE, *allowed}, f"{path} is a file of the core"
    # JAX imports the compiler for TPUs, and `importlib` the library for watermarks.
    assert {*CORE, *PACKAGES} - imported == {"libtpu", "blind_watermark"}


def _outside(path):
    """The modules that a file imports from outside of its own package, by their first names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


TASKS = """
import sys

import jax
import jaxdiff as jd

process = jd.processes.flow()
denoiser, other = (jd.denoisers.gaussian(process, mean, 0.5) for mean in (0.0, 1.0))
guided = jd.guidance.classifier_free(denoiser, other, scale=2.0)
noise = jd.prior_sample(jax.random.key(0), process, (4, 2))
times = jd.grids.uniform_time(process, 3)
for solver in (jd.solvers.ddim, jd.solvers.dpm_solver_pp):
    assert jd.sample(jax.random.key(1), guided, noise, solver(process, times)).shape == (4, 2)
assert jd.likelihood.log_density(denoiser, noise, times=times).log_density.shape == (4,)

for code in sys.argv[1:]:
    try:
        exec(code)
    except ImportError as error:
        print(error)
"""
# What needs an extra, and what the error calls it.
BEYOND = {
    "jd.generate(jax.random.key(0), denoiser, (4, 2), steps=3, progress=True)": ("progress = True", "train"),
    "jd.load('run')": ("jaxdiff.load", "train"),
    "jd.fit": ("jaxdiff.fit", "train"),
    "jd.models.Diffusion": ("jaxdiff.models", "train"),
    "import jaxdiff.networks": ("jaxdiff.networks", "train"),
    "import jaxdiff.training.step": ("jaxdiff.training", "train"),
    "from jaxdiff import data": ("jaxdiff.data", "train"),
    "from jaxdiff.media import pictures": ("jaxdiff.media", "train"),
    "from jaxdiff.runs.checkpoints import Checkpoints": ("jaxdiff.runs.checkpoints", "train"),
}


def test_the_core_samples_and_measures_and_names_the_extra_of_the_rest():
    program = [sys.executable, "-c", WITHOUT_EXTRAS + TASKS, *BEYOND]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert len(lines) == len(BEYOND)
    for line, (thing, extra) in zip(lines, BEYOND.values(), strict=True):
        assert re.fullmatch(rf"{thing} needs the package [\w-]+; pip install 'jaxdiff\[{extra}\]'", line), line


def test_a_package_that_no_extra_brings_is_reported_as_it_is():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'nosuch'$"), needed("jaxdiff.data"):
        import nosuch  # noqa: F401


def test_the_version_is_the_same_everywhere():
    """The citation and the newest entry of the change log name the version of the code."""
    version = re.escape(jaxdiff.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


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
            assert room in ("conditions", "models", "interop", "runs", "presets"), (
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


def test_networks_use_the_layers_whose_derivatives_are_fast():
    """Dense layers are those of `layers/dense.py`, and convolutions get `convolve`."""
    for path in sorted((PACKAGE / "networks").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        slow = [ast.unparse(node.func) for node in calls if ast.unparse(node.func) in ("nn.Dense", "nn.DenseGeneral")]
        assert not slow, path
        convolutions = [node for node in calls if ast.unparse(node.func) == "nn.Conv"]
        assert not convolutions or "conv_general_dilated" in path.read_text(), path
