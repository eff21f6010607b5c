"""Compiles a preset for a TPU pod: `jaxdiff compile-pod configs/imagenet64.py --topology v5e:16x16`.

The command prints the requirements of the training step and of the sampler on each chip. It needs `libtpu`
(`pip install 'jaxdiff[train,tpu]'`) and minutes, but no TPU and no data.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax

from jaxdiff.checks import integer, message, require
from jaxdiff.cli import command_line
from jaxdiff.conditions import Text
from jaxdiff.data.fields import Field
from jaxdiff.distributed.reporting import reporting_errors
from jaxdiff.runs.config import Config
from jaxdiff.runs.config_checks import check
from jaxdiff.runs.settings import parts_of

# For each data set of a preset, the shape of an example and the number of classes.
_SETS = {
    "Digits": ((8, 8, 1), 10),
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "checkerboard": ((2,), 0),
    "imagenet_resized/64x64": ((64, 64, 3), 1000),
}


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """A preset, and the TPU slice to compile it for."""

    topology: str = "v5e:16x16"
    """The version of the TPU (v5e, v5p or v6e) and the shape of the slice."""
    shape: tuple[int, ...] | None = None
    """The shape of one example; None for that of the preset's data."""
    classes: int | None = None
    """The number of classes, 0 for data without labels; None for that of the preset's data."""
    json: bool = False
    """Print JSON, with every collective."""


def fields_of(arguments: Arguments) -> dict[str, Field]:
    """The fields of the data set, without the data set: examples of one shape, labels, and the texts of conditions.

    Raises:
      ValueError: the data set is unknown and `shape` or `classes` is None, or one of them is out of range.
    """
    name = getattr(arguments.data, "name", type(arguments.data).__name__)
    shape, classes = _SETS.get(name, (None, None))
    shape = shape if arguments.shape is None else arguments.shape
    classes = classes if arguments.classes is None else arguments.classes
    if shape is None or classes is None:
        raise ValueError(message("data", name, f"{', '.join(_SETS)}, and others with --shape and --classes"))
    require(shape and min(shape) >= 1, "shape", shape, "tuples of positive integers")
    integer("classes", classes, least=0)
    field = getattr(arguments.model, "field", "image")
    picture = len(shape) == 3
    own = Field("picture", tuple(shape), "uint8") if picture else Field("values", tuple(shape))
    labels = {"label": Field("label", (), "int32", classes)} if classes else {}
    conditions = getattr(arguments.model, "conditions", {}).values()
    return {field: own} | labels | {one.field: Field("text", (), "str") for one in conditions if isinstance(one, Text)}


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, compiles, and prints a table."""
    jax.config.update("jax_platforms", "cpu")  # the programs are compiled for a TPU, and never run on one
    with reporting_errors():
        arguments, _ = command_line.parse_preset(Arguments, argv, prog="jaxdiff compile-pod")
        print(_compile(arguments))


def _compile(arguments: Arguments) -> str:
    """The report of both programs, as text."""
    config = command_line.narrowed(arguments, Config)
    check(config)
    fields = fields_of(arguments)

    from jaxdiff import distributed
    from jaxdiff.runs import compiled, lowering, topologies
    from jaxdiff.runs.recipe import make_training

    parts = parts_of(config)
    require(not parts, "parts of the run", ", ".join(parts), "presets without parts")
    training = make_training(config, fields, lowering.NOTHING)

    chip, devices = topologies.open_topology(arguments.topology)
    mesh = distributed.make_mesh(devices, config.parallel.fsdp)
    reports = {}
    for name, lower in (("training step", lowering.lower_training), ("sampler", lowering.lower_sampling)):
        lowered = lower(training, mesh)
        demands = compiled.compile_for(lowered, mesh.size)
        reports[name] = report(lowered.flops, demands, chip, devices[0].device_kind, mesh.size)
    return json.dumps(reports, indent=2) if arguments.json else table(reports)


def report(flops: float, demands: Any, chip: Any, kind: str, devices: int) -> dict[str, Any]:
    """The reported figures of one program.

    Args:
      flops: floating-point operations on all chips.
      demands: the `jaxdiff.runs.compiled.Demands` of the program.
      chip: the `jaxdiff.runs.topologies.Chip` that runs it.
      kind: the `device_kind` of a chip.
      devices: the number of chips.
    """
    from jaxdiff.logging.throughput import peak_flops

    peak = peak_flops(kind)
    assert peak is not None
    collectives: dict[str, dict[str, Any]] = {}
    for one in demands.collectives:
        entry = collectives.setdefault(
            f"{one.kind} {one.dtype} of {one.group}", {"count": 0, "bytes": 0, "sent": 0.0, "known": True}
        )
        entry["count"] += one.times
        entry["bytes"] += one.bytes * one.times
        entry["sent"] += one.sent
        entry["known"] &= one.known
    return {
        "arguments": demands.arguments,
        "outputs": demands.outputs,
        "aliased": demands.aliased,
        "temporary": demands.temporary,
        "code": demands.code,
        "memory": demands.memory,
        "available": chip.memory,
        "fits": demands.refusal is None and demands.memory is not None and demands.memory <= chip.memory,
        "refusal": demands.refusal,
        "flops": flops,
        "flops_per_chip": flops / devices,
        "compiler_flops": demands.flops,
        "compiler_accessed": demands.accessed,
        "collectives": collectives,
        "arithmetic_seconds": flops / devices / peak,
        "exchange_seconds": sum(entry["sent"] for entry in collectives.values()) / chip.link,
        "compile_seconds": demands.seconds,
    }


def table(reports: dict[str, dict[str, Any]]) -> str:
    """The reports side by side, in Markdown."""

    def size(value: float) -> str:
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"

    def collective(entry: dict[str, Any]) -> str:
        return f"{entry['count']} x, {size(entry['bytes'])}" + " at least" * (not entry["known"])

    def row(name: str, values: Any, text: Any) -> str:
        return f"| {' | '.join([name, *('' if value is None else text(value) for value in values)])} |"

    columns = list(reports.values())
    lines = [f"| {' | '.join(['per chip', *reports])} |", f"| {' | '.join(['---', *('---:' for _ in columns)])} |"]
    for name, key, text in (
        ("arguments", "arguments", size),
        ("outputs", "outputs", size),
        ("of them in the place of arguments", "aliased", size),
        ("temporary", "temporary", size),
        ("program", "code", size),
        ("memory, all together", "memory", size),
        ("memory available", "available", size),
        ("fits", None, lambda column: "yes" if column["fits"] else f"no: {column['refusal'] or ''}"),
        ("floating-point operations", "flops_per_chip", "{:.4g}".format),
        ("... on all chips", "flops", "{:.4g}".format),
        ("... as the compiler counts them, loops once", "compiler_flops", "{:.4g}".format),
        ("bytes accessed, loops once", "compiler_accessed", "{:.4g}".format),
    ):
        lines.append(row(name, (column[key] if key else column for column in columns), text))
    for kind in sorted({kind for column in columns for kind in column["collectives"]}):
        lines.append(row(kind, (column["collectives"].get(kind) for column in columns), collective))
    for name, key in (
        ("estimate: arithmetic at the peak", "arithmetic_seconds"),
        ("estimate: exchange at the links' bandwidth", "exchange_seconds"),
        ("compiled in", "compile_seconds"),
    ):
        lines.append(row(name, (column[key] for column in columns), "{:.3g} s".format))
    return "\n".join(lines)
