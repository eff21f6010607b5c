"""Compiles a preset's training step and sampler for a TPU pod, without one, and prints what they ask of each chip:
`python scripts/compile_pod.py imagenet64 --topology v5e:16x16 --parallel.fsdp 16`.

Needs `libtpu` (`pip install libtpu`), no data, and minutes.
"""

import dataclasses
import json
from typing import Any

import jax

from jaxdiff.cli import command_line
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.data_spec import DataSpec

# Shape and classes of the sets that the presets name.
_SETS = {
    "digits": ((8, 8, 1), 10),
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "checkerboard": ((2,), 0),
    "imagenet_resized/64x64": ((64, 64, 3), 1000),
}


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, and what to compile it for."""

    topology: str = "v5e:16x16"
    """The TPU's version and the shape of the slice; v5e, v5p and v6e are known."""
    shape: tuple[int, ...] | None = None
    """Of one example; by default that of the preset's data."""
    classes: int | None = None
    """How many there are, 0 for none; likewise."""
    json: bool = False
    """Print JSON, with every collective."""


def data_spec(arguments: Arguments) -> DataSpec:
    """The facts about the data set, without the data set."""
    from jaxdiff.data import Examples
    from jaxdiff.runs.recipe import describe_data

    shape, classes = _SETS.get(arguments.data.name, (None, None))
    shape = shape if arguments.shape is None else arguments.shape
    classes = classes if arguments.classes is None else arguments.classes
    if shape is None or classes is None:
        raise ValueError(f"data.name = {arguments.data.name!r}: of this set give --shape and --classes")
    if not shape or min(shape) < 1 or classes < 0:
        raise ValueError(f"shape = {shape}, classes = {classes}; allowed are positive lengths, and 0 or more classes")
    return describe_data(arguments, Examples([], shape, classes))


def main() -> None:
    """Reads the command line, compiles, and prints a table."""
    jax.config.update("jax_platforms", "cpu")  # the programs are compiled for a TPU, and never run on one
    with reporting_errors():
        arguments, _ = command_line.parse_preset(Arguments, prog="compile_pod.py")
        print(_compile(arguments))


def _compile(arguments: Arguments) -> str:
    config = Config(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Config)})
    check(config)
    spec = data_spec(arguments)

    from jaxdiff import distributed
    from jaxdiff.runs import pod

    chip, devices = pod.open_topology(arguments.topology)
    mesh = distributed.make_mesh(devices, config.parallel.fsdp)
    found = {}
    for name, lower in (("training step", pod.lower_training), ("sampler", pod.lower_sampling)):
        lowered = lower(config, spec, mesh)
        found[name] = numbers(
            lowered.flops, pod.compile_for(lowered, mesh.size), chip, devices[0].device_kind, mesh.size
        )
    return json.dumps(found, indent=2) if arguments.json else table(found)


def numbers(flops: float, asked: Any, chip: Any, kind: str, devices: int) -> dict[str, Any]:
    """What is reported of one program."""
    from jaxdiff.logging.throughput import peak_flops

    peak = peak_flops(kind)
    assert peak is not None
    exchanged: dict[str, dict[str, Any]] = {}
    for one in asked.collectives:
        entry = exchanged.setdefault(
            f"{one.kind} {one.dtype} of {one.group}", {"count": 0, "bytes": 0, "sent": 0.0, "known": True}
        )
        entry["count"] += one.times
        entry["bytes"] += one.bytes * one.times
        entry["sent"] += one.sent
        entry["known"] &= one.known
    return {
        "arguments": asked.arguments,
        "outputs": asked.outputs,
        "aliased": asked.aliased,
        "temporary": asked.temporary,
        "code": asked.code,
        "memory": asked.memory,
        "available": chip.memory,
        "fits": asked.refusal is None and asked.memory is not None and asked.memory <= chip.memory,
        "refusal": asked.refusal,
        "flops": flops,
        "flops_per_chip": flops / devices,
        "compiler_flops": asked.flops,
        "compiler_accessed": asked.accessed,
        "collectives": exchanged,
        "arithmetic_seconds": flops / devices / peak,
        "exchange_seconds": sum(entry["sent"] for entry in exchanged.values()) / chip.link,
        "compile_seconds": asked.seconds,
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """The reports side by side, in Markdown."""

    def size(value: float | None) -> str:
        return "" if value is None else f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"

    def count(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    reports = list(found.values())
    lines = [("per chip", *found), ("---", *("---:" for _ in found))]
    for name, key in (
        ("arguments", "arguments"),
        ("outputs", "outputs"),
        ("of them in the place of arguments", "aliased"),
        ("temporary", "temporary"),
        ("program", "code"),
        ("memory, all together", "memory"),
        ("memory available", "available"),
    ):
        lines.append((name, *(size(report[key]) for report in reports)))
    lines.append(("fits", *("yes" if report["fits"] else f"no: {report['refusal'] or ''}" for report in reports)))
    for name, key in (
        ("floating-point operations", "flops_per_chip"),
        ("... on all chips", "flops"),
        ("... as the compiler counts them, loops once", "compiler_flops"),
        ("bytes accessed, loops once", "compiler_accessed"),
    ):
        lines.append((name, *(count(report[key]) for report in reports)))
    for kind in sorted({kind for report in reports for kind in report["collectives"]}):
        entries = [report["collectives"].get(kind) for report in reports]
        lines.append(
            (
                kind,
                *(
                    ""
                    if entry is None
                    else f"{entry['count']} x, {size(entry['bytes'])}" + " at least" * (not entry["known"])
                    for entry in entries
                ),
            )
        )
    for name, key in (
        ("estimate: arithmetic at the peak", "arithmetic_seconds"),
        ("estimate: exchange at the links' bandwidth", "exchange_seconds"),
        ("compiled in", "compile_seconds"),
    ):
        lines.append((name, *(f"{report[key]:.3g} s" for report in reports)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
