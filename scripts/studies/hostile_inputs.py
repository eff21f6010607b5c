"""Bad inputs of every sort, made from settings' own types and from changed copies of real files.

Each sort is a function `(rng, made, own) -> Case`: it draws one input, writes its files into the directory `own`, and
returns the command that reads them. `made` holds the real files that `make` has written. The number of an input and a
seed say everything about it.
"""

import functools
import json
import operator
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_changes import CANARY, NUMBERS, WORDS, Case, changed_bytes, changed_json, places, replaced, short
from hostile_data import arrays, pictures, tfds_sets, write_data

from jaxdiff.components import kinds_of, walk
from jaxdiff.presets import open_preset
from jaxdiff.runs.checkpoints import manifest
from jaxdiff.runs.config import Config

TINY = ["--model.network.width", "8", "--model.network.num-blocks", "1", "--data.n", "64", "--sample.steps", "2"]
TINY += [
    "--train.batch-size",
    "8",
    "--train.steps",
    "4",
    "--train.checkpoint-every",
    "2",
    "--train.snapshot-every",
    "2",
]
TINY += ["--train.ema-widths", "0.1", "0.05", "--train.log-every", "1", "--train.sample-every", "0"]
TINY += ["--optimizer.schedule", "constant"]
"""The flags of a run of `toy2d` that takes a second."""


def make(made: Path, train: Callable[[list[str]], None]) -> None:
    """Writes the real files: a run, pictures, a TFDS set, arrays, and the canaries.

    Args:
      made: a new directory.
      train: runs the command `train` with arguments.
    """
    canary = made / "canary"
    canary.mkdir(parents=True)
    mark = f"open({str(canary / 'executed')!r}, 'w').close()"
    (made / "modules").mkdir()
    (made / "modules" / f"{CANARY}.py").write_text(f"{mark}\nclass Kind: pass\nImage = CONFIG = Kind\n")
    (canary / "secret").write_text("nobody may read or change this\n")
    (canary / "tmp.secret").mkdir()
    (canary / "tmp.secret" / "kept").write_text("nobody may delete this\n")
    os.mkfifo(canary / "pipe")
    (made / "preset.py").write_text("from jaxdiff.presets.toy2d import CONFIG\n")
    write_data(made)
    train([str(made / "preset.py"), *TINY, "--run-dir", str(made / "run")])


def flags(rng: random.Random, made: Path, own: Path) -> Case:
    """A flag of a command with a value of another type, out of range, or of odd letters; or an odd flag."""
    command = rng.choice(["train", "train", "train", "sample", "ema"])
    commands: dict[str, list[str]] = {
        "train": [str(made / "preset.py"), *TINY, "--run-dir", "run"],
        "sample": [str(made / "run"), "--count", "2", "--out", "out.png"],
        "ema": [str(own / "run"), "--width", "0.08"],
    }
    if command == "ema":  # which writes into the run
        copied_run(made, own)
    words = [command, *commands[command]]
    # Devices and profiles of the training itself are not at stake here, and long trainings are no bad input.
    left_out = ("train.steps", "loading", "log.profile", "sample.steps")
    if command == "train":
        config = open_preset(str(made / "preset.py")).config
        known = [s for s in walk(config, Config) if not s.path.startswith(left_out)]
        chosen = rng.choice(known)
        value = rng.choice([*map(str, NUMBERS), *WORDS, *(kind for kind in kinds_of(chosen.hint) or ())])
        flag = f"--{chosen.path}"
        if rng.random() < 0.15:
            flag = rng.choice(["--run-dir", "--part", "--import", "--processes", "--coordinator", "--process"])
    else:
        flag = rng.choice(["--count", "--seed", "--ema", "--out", "--part", "--ask", "--solver.kind", "--grid.kind"])
        flag = rng.choice([flag, "--guidance.kind", "--step", "--width", "--nosuch", "--run", "--import"])
        value = rng.choice([*map(str, NUMBERS), *WORDS])
    if value == f"{CANARY}:Kind" and flag == "--import":
        value = "nosuch_module"
    words += [f"{flag}={value}"] if rng.random() < 0.5 else [flag, value]
    path = flag.removeprefix("--")
    names = [path, path.rpartition(".")[0] or path, *([repr(value)[:20]] if value.strip() else [])]
    return Case(words, f"{flag} {short(value)}", names)


def copied_run(made: Path, own: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made / "run", own / "run"))


def reading(rng: random.Random, made: Path, run: Path) -> list[str]:
    """A command that reads a run."""
    return rng.choice(
        [
            ["sample", str(run), "--count", "2", "--out", "out.png"],
            ["sample", str(run), "--count", "2", "--out", "out.png", "--ema", "0.08"],
            ["ema", str(run), "--width", "0.08"],
            ["train", str(made / "preset.py"), *TINY, "--run-dir", str(run)],
        ]
    )


def settings(rng: random.Random, made: Path, own: Path) -> Case:
    """A run whose config.json or meta.json is changed. The manifest fits, so that no checksum finds the change."""
    run = copied_run(made, own)
    chosen = rng.choice([run / "config.json", *sorted(run.glob("*/*/meta.json"))])
    says = calling(rng, made, chosen) if rng.random() < 0.1 else changed_json(rng, chosen)
    if chosen.name == "meta.json":
        (chosen.parent / "manifest.json").unlink()
        manifest.write(chosen.parent)
    return Case(reading(rng, made, run), f"{chosen.relative_to(run).parent}: {says}", [str(run)])


def calling(rng: random.Random, made: Path, path: Path) -> str:
    """Puts a function that does harm in the place of a component. Returns the change in words."""
    canary = made / "canary"
    harm: dict[str, Any] = rng.choice(
        [
            {"kind": "os:remove", "path": str(canary / "secret")},
            {"kind": "os:system", "command": f"touch {canary / 'executed'}"},
            {"kind": "shutil:rmtree", "path": str(canary / "tmp.secret"), "ignore_errors": True},
            {"kind": "pathlib:Path.unlink", "self": str(canary / "secret")},
            {"kind": "builtins:exec", "source": f"open({str(canary / 'executed')!r}, 'w')"},
            {"kind": "jaxdiff.files:write_atomically", "path": str(canary / "executed"), "data": ""},
            {"kind": "jaxdiff.files:load_module", "path": str(made / "modules" / f"{CANARY}.py")},
            {"kind": f"{CANARY}:Kind"},
        ]
    )
    tree = json.loads(path.read_text())
    components = [place for place in places(tree) if place[-1] == "kind"]
    *above, last, _ = rng.choice(components)
    parent = functools.reduce(operator.getitem, above, tree)
    parent[last] = harm
    path.write_text(json.dumps(tree))
    return f"{path.name}: {'.'.join(map(str, above))}.{last} is {harm}"


def manifests(rng: random.Random, made: Path, own: Path) -> Case:
    """A run with a changed checkpoint: its manifest, or the files that the manifest names."""
    run = copied_run(made, own)
    checkpoint = rng.choice(sorted(path for path in run.glob("*/*") if path.name.isdecimal()))
    written = checkpoint / "manifest.json"
    tree = json.loads(written.read_text())
    name = rng.choice(sorted(tree["files"]))
    how = rng.choice(["manifest", "manifest", "names", "names", "file", "bytes", "blessed", "directory"])
    if how == "manifest":
        says = changed_json(rng, written)
    elif how == "names":
        canary = made / "canary"
        other = rng.choice(["/dev/zero", "/etc/passwd", "pipe", str(canary / "secret"), str(canary / "pipe")])
        other = rng.choice([other, os.path.relpath(canary / "secret", checkpoint), "state", "..", "", "a\0b"])
        if other == "pipe":
            os.mkfifo(checkpoint / other)
        tree["files"][other] = rng.choice([[10, 10], tree["files"].pop(name), [10**30, 0], None, [1], "x"])
        written.write_text(json.dumps(tree))
        says = f"manifest.json names {other!r} with {tree['files'][other]}"
    elif how == "file":
        says = replaced(rng, checkpoint / name, made / "canary")
    elif how == "directory":
        elsewhere = own / "elsewhere"
        moved = rng.choice([checkpoint, checkpoint / "state"])
        shutil.move(moved, elsewhere)
        moved.symlink_to(rng.choice([elsewhere, made / "canary", Path("nowhere")]))
        says = f"{moved.name} is a link to {os.readlink(moved)}"
    else:
        data, says = changed_bytes(rng, (checkpoint / name).read_bytes())
        (checkpoint / name).write_bytes(data)
        says = f"{name} {says}"
        if how == "blessed":
            written.unlink()
            manifest.write(checkpoint)
            says += ", and the manifest fits"
    return Case(reading(rng, made, run), f"{checkpoint.relative_to(run)}: {says}", [str(run)])


LAUNCHERS = {
    "Open MPI": {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_MCA_orte_hnp_uri": "1714290688.0;tcp://127.0.0.1:1",
    },
    "Slurm": {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
    },
    "Kubernetes": {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "JOB_COMPLETION_INDEX": "1"},
    "JAX": {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"},
    "a TPU": {"TPU_WORKER_HOSTNAMES": "localhost,localhost", "TPU_WORKER_ID": "1", "TPU_SKIP_MDS_QUERY": "1"},
    "directories": {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/dev/null", "TMPDIR": "/nonexistent"},
}
"""What launchers and machines say, by their names."""

PLATFORMS = [{"JAX_PLATFORMS": name} for name in ("cuda", "tpu", "rocm", "nosuch", "cpu,cuda", ",", "")]
SETTINGS = [*PLATFORMS, {"JAX_DEFAULT_PRNG_IMPL": "rbg"}, {"JAX_NUMPY_RANK_PROMOTION": "raise"}]
SETTINGS += [{"JAX_ENABLE_X64": "1"}, {"JAX_TRANSFER_GUARD": "disallow"}]
"""JAX's own settings. JAX reads them when it is imported, and refuses wrong values itself."""


def environments(rng: random.Random, made: Path, own: Path) -> Case:
    """Environment variables of a launcher, one or two of them odd or missing."""
    launcher = rng.choice([*LAUNCHERS, "JAX's settings"])
    fresh = launcher not in LAUNCHERS
    environment = dict(rng.choice(SETTINGS) if fresh else LAUNCHERS[launcher])
    if not fresh:
        odd = [*WORDS, *map(str, NUMBERS), "2", "0", "01", "localhost:0", "node[1-3]", "node[", "::1"]
        for name in rng.sample(list(environment), rng.choice([1, 2])):
            environment[name] = rng.choice(odd)
            if rng.random() < 0.2:
                del environment[name]
    line = ["train", str(made / "preset.py"), *TINY, "--run-dir", "run"]
    names = [launcher, *environment, "join", *(value for value in environment.values() if len(value) > 2)]
    says = f"{launcher}: {', '.join(f'{name}={short(value)}' for name, value in environment.items())}"
    return Case(line, says, names, environment, fresh)


SORTS: dict[str, tuple[Callable[[random.Random, Path, Path], Case], int]] = {
    "flags": (flags, 22),
    "settings of runs": (settings, 22),
    "checkpoints": (manifests, 16),
    "pictures": (pictures, 16),
    "TFDS sets": (tfds_sets, 10),
    "arrays": (arrays, 8),
    "environments": (environments, 6),
}
"""The sorts, and the share of each in a hundred."""
