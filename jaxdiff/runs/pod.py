"""Programs compiled for a TPU pod that is not there, and what they ask of each chip.

`libtpu` (`pip install libtpu`) holds the real TPU compiler, which needs no TPU: what it makes is what a pod would run.
"""

import difflib
import importlib.util
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdiff.distributed import ROWS, Sharded, check_batch
from jaxdiff.runs.config import Config
from jaxdiff.runs.data_spec import DataSpec
from jaxdiff.runs.load import make_model
from jaxdiff.runs.recipe import batch_shapes, make_training
from jaxdiff.sampling import sample
from jaxdiff.training.flops import flops_of


class Chip(NamedTuple):
    """A TPU chip of which JAX makes one device.

    Attributes:
      memory: bytes that a program may use: what the compiler says is available when it refuses one that is larger (JAX
        0.10.2, libtpu 0.0.52), a little less than the chip has.
      link: bytes a second that it can send to its neighbours together, half of the bidirectional bandwidth.
      slices: shapes that are offered.
    """

    memory: float
    link: float
    slices: tuple[str, ...]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16")

CHIPS = {
    "v5e": Chip(15.75 * 2**30, 200e9, _FLAT),  # https://docs.cloud.google.com/tpu/docs/v5e
    "v5p": Chip(95.73 * 2**30, 600e9, (*_CUBES, "16x16x24")),  # https://docs.cloud.google.com/tpu/docs/v5p
    "v6e": Chip(31.24 * 2**30, 400e9, _FLAT),  # https://docs.cloud.google.com/tpu/docs/v6e
}

# No TPU is used: none is locked, asked for, or named by the machine, and nothing is logged to disk.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
}


def open_topology(name: str) -> tuple[Chip, list[Any]]:
    """The chips of a slice such as `v5e:16x16` (or `v5e-16x16`), as devices that can be compiled for.

    Raises:
      ValueError: a name that the compiler does not know; with the nearest that is offered.
      ImportError: there is no `libtpu`.
    """
    found = re.fullmatch(r"(\w+)[:-](\d{1,6}(?:x\d{1,6})*)", name)
    offered = [f"{version}:{shape}" for version, chip in CHIPS.items() for shape in chip.slices]
    if found is None or found[1] not in CHIPS:
        near = difflib.get_close_matches(name, offered, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"topology = {name!r}{hint} (allowed are {', '.join(CHIPS)} and a shape, as in {offered[7]} or v5p:8x8x8)"
        )
    version, shape = found[1], found[2]
    chip, lengths = CHIPS[version], [int(length) for length in shape.split("x")]
    nearest = min(chip.slices, key=lambda other: abs(math.log(_count(other) / max(math.prod(lengths), 1))))
    refused = f"topology = {name!r}; did you mean '{version}:{nearest}'? (offered are {', '.join(chip.slices)})"
    # On an empty slice libtpu ends the process.
    largest = max(map(_count, chip.slices))
    if len(lengths) != len(chip.slices[0].split("x")) or not 0 < math.prod(lengths) <= largest:
        raise ValueError(refused)
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("libtpu, the compiler for TPUs, is not installed: pip install libtpu")
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        return chip, list(topologies.get_topology_desc(f"{version}:{shape}", "tpu").devices)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise ValueError(refused) from error


def _count(shape: str) -> int:
    return math.prod(int(length) for length in shape.split("x"))


class Lowered(NamedTuple):
    """A program for a mesh, not yet compiled.

    Attributes:
      program: what JAX lowered.
      flops: of one run on all devices together, by `flops.flops_of`.
    """

    program: Any
    flops: float


def lower_training(config: Config, spec: DataSpec, mesh: Mesh) -> Lowered:
    """The training step of a configuration (`parallel.steps_per_call` of them), lowered for a mesh, from shapes alone.

    Args:
      spec: of the data, by `recipe.describe_data`.
      mesh: with the axes of `distributed.make_mesh`.

    Raises:
      ValueError: a strategy that has no mesh, a set that lives on the device, a batch that the mesh does not divide.
    """
    settings = config.parallel
    if settings.strategy not in ("auto", "jit"):
        raise ValueError(f"parallel.strategy = {settings.strategy!r}; allowed over a mesh are 'auto' and 'jit'")
    if config.data.placement == "device":
        raise ValueError("data.placement = 'device'; allowed here are 'disk' and 'memory'")
    check_batch(config.train.batch_size, mesh, settings.accumulate)
    strategy = Sharded(mesh, settings.overrides)
    step, initialise = make_training(config, spec, strategy)
    shapes = jax.eval_shape(initialise)
    call = strategy.compile(step, shapes, settings.steps_per_call)
    several = settings.steps_per_call > 1
    rows = PartitionSpec(None, *ROWS) if several else ROWS
    first = (settings.steps_per_call,) if several else ()
    batch = {
        name: jax.ShapeDtypeStruct((*first, *leaf.shape), leaf.dtype, sharding=NamedSharding(mesh, rows))
        for name, leaf in batch_shapes(config, spec).items()
    }
    return _lowered(call, strategy.canonical_shapes(shapes), batch)


def lower_sampling(config: Config, spec: DataSpec, mesh: Mesh) -> Lowered:
    """The sampler of a configuration, lowered for a mesh, from shapes alone: as many samples as a training batch has,
    and the parameters whole on every chip, as `draw` puts them there.
    """
    size, classes = config.train.batch_size, spec.num_classes
    _, initialise = make_training(config, spec)
    params = jax.eval_shape(initialise).params
    model = make_model(config, spec, params, 0)
    denoiser = model.denoiser(np.zeros(size, int), config.sample.guidance) if classes else model.denoiser()
    tableau = config.sample.make_tableau(model.process)

    def spread(leaf: Any, rows: PartitionSpec) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, rows))

    def whole(tree: Any) -> Any:
        """With a copy on every device."""
        return jax.tree.map(
            lambda leaf: spread(leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf), PartitionSpec()), tree
        )

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
    noise = jax.ShapeDtypeStruct((size, *spec.shape), jnp.float32)
    return _lowered(jax.jit(sample), spread(keys, ROWS), whole(denoiser), spread(noise, ROWS), whole(tableau))


def _lowered(function: Any, *args: Any) -> Lowered:
    return Lowered(function.lower(*args), flops_of(function, *args))


class Collective(NamedTuple):
    """What chips exchange, as one instruction of a compiled program asks for it.

    Attributes:
      kind: `all-reduce`, `all-gather`, `reduce-scatter`, `all-to-all`, `collective-permute` or `collective-broadcast`.
      dtype: of the numbers, or several.
      bytes: of the whole array on one chip: after it is gathered or reduced, before it is scattered.
      group: how many chips take part together.
      times: how often it runs.
      known: whether that is known; otherwise loops of unknown length were taken to turn once.
    """

    kind: str
    dtype: str
    bytes: int
    group: int
    times: int
    known: bool

    @property
    def sent(self) -> float:
        """Bytes that a chip sends, all times together, if the chips pass their parts around a ring (Patarasuk & Yuan
        2009).
        """
        rounds = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0}
        share = rounds[self.kind] * (self.group - 1) / self.group if self.kind in rounds else 1.0
        return share * self.bytes * self.times


_KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "ragged-all-to-all",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_CHAIN = re.compile(r'\bchain_id="(\d+)"')


def collectives(text: str, devices: int) -> list[Collective]:
    """The collectives of a compiled program, from its text (`compiled.as_text()`).

    An asynchronous one counts where it starts. A TPU's may go on in many fusions, with computation that hides it: it is
    written in each of them, and all name one chain. Those in a loop count as often as it turns; every branch of a
    condition counts. A TPU's reduce-scatter is written as a computation called so, of an all-reduce and a slice.

    Args:
      devices: how many run the program: the group of a collective that names none.
    """
    bodies: dict[str, list[str]] = {}
    entry = current = ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if found := _COMPUTATION.match(line):
            current = found[2]
            bodies[current] = []
            entry = current if found[1] else entry
        elif current:
            bodies[current].append(line)

    chains: set[str] = set()

    def walk(name: str, times: int, known: bool) -> Iterator[Collective]:
        for line in bodies.get(name, ()):
            if (found := _INSTRUCTION.match(line)) is None:
                continue
            shape, operation, rest = found.groups()
            if operation.endswith(("-done", "-update")):
                continue
            kind = operation.removesuffix("-start")
            if kind in _KINDS:
                if chain := _CHAIN.search(rest):
                    if chain[1] in chains:
                        continue
                    chains.add(chain[1])
                yield _collective(name, kind, shape, rest, devices, operation != kind, times, known)
            elif operation == "while":
                turns = _turns(rest, bodies)
                for called in _CALLED.findall(rest):
                    yield from walk(called, times * (turns or 1), known and turns is not None)
            else:
                branches = [called.strip(" %") for listed in _BRANCHES.findall(rest) for called in listed.split(",")]
                for called in (*_CALLED.findall(rest), *branches):
                    yield from walk(called, times, known)

    return list(walk(entry, 1, True))


def _collective(
    inside: str, kind: str, shape: str, rest: str, devices: int, started: bool, times: int, known: bool
) -> Collective:
    parts = [(dtype, _bytes(dtype, lengths)) for dtype, lengths in _SHAPE.findall(shape)]
    if started and kind in ("all-gather", "collective-permute"):
        # What starts one of these names its operands, its results, and sometimes numbers of its own.
        parts = [part for part in parts if part[1] > 4] if len(parts) > 2 else parts
        parts = parts[len(parts) // 2 :]
    group = _group(rest, devices)
    size = sum(size for _, size in parts)
    if kind == "reduce-scatter":
        size *= group
    elif kind == "all-reduce" and inside.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    return Collective(kind, " ".join(sorted({dtype for dtype, _ in parts})), size, group, times, known)


def _bytes(dtype: str, lengths: str) -> int:
    count = math.prod(int(length) for length in lengths.split(",") if length)
    bits = 8 if dtype == "pred" else int(found[0]) if (found := re.findall(r"\d+", dtype)) else 0
    return math.ceil(count * bits / 8)


def _group(rest: str, devices: int) -> int:
    """How many devices take part, from any of the three ways in which groups are written."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", rest):
        lengths = dict(re.findall(r"('[^']*')=(\d+)", found[1]))
        return math.prod(int(lengths[axis]) for axis in re.findall(r"'[^']*'", found[2]))
    return devices


def _turns(rest: str, bodies: dict[str, list[str]]) -> int | None:
    """How often a loop turns: as the compiler says, or the bound that its condition holds a counter to, as in every
    `lax.scan`; None where there is neither.
    """
    if found := re.search(r'known_trip_count":\{"n":"(\d+)"', rest):
        return int(found[1])
    condition = re.search(r"\bcondition=%?([\w.-]+)", rest)
    lines = "\n".join(bodies.get(condition[1], ())) if condition else ""
    bounds = re.findall(r"= s32\[\]\S* constant\((\d+)\)", lines)
    return int(bounds[0]) if len(bounds) == 1 and "direction=LT" in lines else None


class Demands(NamedTuple):
    """What a program asks of each chip. Memory in bytes; None where the compiler refused it for want of memory.

    Attributes:
      seconds: that it took to compile.
      refusal: what the compiler said, or None.
      arguments, outputs, aliased, temporary, code: `aliased` are outputs in the place of donated arguments.
      flops: floating-point operations as the compiler counts them: the body of a loop once.
      accessed: bytes read and written, likewise.
      collectives: see `Collective`.
    """

    seconds: float
    refusal: str | None = None
    arguments: int | None = None
    outputs: int | None = None
    aliased: int | None = None
    temporary: int | None = None
    code: int | None = None
    flops: float | None = None
    accessed: float | None = None
    collectives: Sequence[Collective] = ()

    @property
    def memory(self) -> int | None:
        """All that lies in a chip's memory together."""
        parts = (self.arguments, self.outputs, self.temporary, self.code)
        if self.aliased is None or None in parts:
            return None
        return sum(part for part in parts if part is not None) - self.aliased


def compile_for(lowered: Lowered, devices: int) -> Demands:
    """Compiles a program for that many devices and reads off what it asks of each."""
    began = time.perf_counter()
    try:
        compiled = lowered.program.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Demands(time.perf_counter() - began, " ".join(str(error).splitlines()[0].split()))
    seconds = time.perf_counter() - began
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return Demands(
        seconds,
        None,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.generated_code_size_in_bytes,
        cost.get("flops"),
        cost.get("bytes accessed"),
        collectives(compiled.as_text(), devices),
    )
