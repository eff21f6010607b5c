"""The package as a whole: what importing it costs, and that its floors stand in order."""

import ast
import json
import pathlib
import subprocess
import sys

import jaxdiff

ROOT = pathlib.Path(jaxdiff.__file__).parent
FLOORS = {
    "arithmetic": 0, "trees": 0,
    "processes": 1, "parametrizations": 1, "denoisers": 1,
    "solvers": 2, "sampling": 2, "grids": 2, "objectives": 2, "likelihood": 2, "probability_flow": 2, "adaptive_steps": 2,
    "guidance": 3,
    "training": 4, "evaluation": 4, "data": 4,
}  # fmt: skip


def test_importing_is_light():
    """Nothing heavier than JAX and NumPy, and under 0.3 s beyond them (the least of five, on a machine that may be busy)."""
    program = (
        "import time, jax, jax.numpy, numpy; start = time.perf_counter(); import jaxdiff; took = time.perf_counter() - start\n"
        "import sys, json; print(json.dumps([took, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    took = []
    for _ in range(5):
        out = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
        )
        seconds, modules = json.loads(out.stdout)
        took.append(seconds)
        assert not {
            "flax",
            "orbax",
            "grain",
            "tensorflow_datasets",
            "tensorflow",
            "optax",
            "sklearn",
            "PIL",
            "diffrax",
            "equinox",
        } & set(modules)
    assert min(took) < 0.3


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from [node.module] if node.module != "jaxdiff" else [f"jaxdiff.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_run_downward():
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if here in ("__init__", "networks"):
            continue
        for name in _imported(path):
            if name.startswith("jaxdiff."):
                room = name.split(".")[1]
                if room != "networks":
                    assert FLOORS[room] <= FLOORS[here], f"{path} imports {name}, a floor above"
                else:
                    assert here == "training", f"{path} imports {name}"


def test_networks_know_nothing_of_processes():
    for path in (ROOT / "networks").glob("*.py"):
        for name in _imported(path):
            allowed = name.startswith(("jaxdiff.networks", "jaxdiff.trees"))
            assert not name.startswith("jaxdiff.") or allowed, f"{path} imports {name}"


def test_every_public_function_is_documented():
    scripts = ROOT.parent / "scripts"
    for path in [*ROOT.rglob("*.py"), *scripts.glob("*.py"), *(scripts / "studies").glob("*.py")]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or node.name == "main", f"{path}: {node.name} has no docstring"
