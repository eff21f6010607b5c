"""The requirements of a compiled program on each chip: memory, operations, and collectives."""

import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from jaxdiff.runs.lowering import Lowered


class Collective(NamedTuple):
    """An instruction of a compiled program that makes chips exchange data.

    Attributes:
      kind: `all-reduce`, `all-gather`, `reduce-scatter`, `all-to-all`, `collective-permute` or `collective-broadcast`.
      dtype: the type of the numbers; several types are separated by spaces.
      bytes: the size of the whole array on one chip: after it is gathered or reduced, before it is scattered.
      group: the number of chips that take part together.
      times: how often the instruction runs.
      known: whether `times` is known. If not, each loop of unknown length was counted once.
    """

    kind: str
    dtype: str
    bytes: int
    group: int
    times: int
    known: bool

    @property
    def sent(self) -> float:
        """The bytes that a chip sends in all runs together, on a ring of chips (Patarasuk & Yuan 2009)."""
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
    """The collectives of a compiled program.

    - An asynchronous collective counts where it starts.
    - On TPU a collective may run beside the computations of several fusions. Each of these fusions contains the
      instruction, with one chain identifier, and the chain counts once.
    - A collective in a loop counts once for each iteration. All branches of a conditional count.
    - On TPU a reduce-scatter is a computation `all-reduce-scatter` that holds an all-reduce and a slice.

    Args:
      text: the program, from `compiled.as_text()`.
      devices: the number of devices that run the program. A collective without groups has them all in one group.
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
                length = _loop_length(rest, bodies)
                for called in _CALLED.findall(rest):
                    yield from walk(called, times * (length or 1), known and length is not None)
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
        # The start of these two lists operands, results, and sometimes scalars of its own.
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
    """The number of devices in a group. HLO writes groups in three ways."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", rest):
        lengths = dict(re.findall(r"('[^']*')=(\d+)", found[1]))
        return math.prod(int(lengths[axis]) for axis in re.findall(r"'[^']*'", found[2]))
    return devices


def _loop_length(rest: str, bodies: dict[str, list[str]]) -> int | None:
    """The number of iterations of a loop; None if it is unknown.

    The compiler states it, or the condition compares a counter with a constant, as in every `lax.scan`.
    """
    if found := re.search(r'known_trip_count":\{"n":"(\d+)"', rest):
        return int(found[1])
    condition = re.search(r"\bcondition=%?([\w.-]+)", rest)
    lines = "\n".join(bodies.get(condition[1], ())) if condition else ""
    bounds = re.findall(r"= s32\[\]\S* constant\((\d+)\)", lines)
    return int(bounds[0]) if len(bounds) == 1 and "direction=LT" in lines else None


class Demands(NamedTuple):
    """The requirements of a program on each chip. Numbers are None if the compiler refused it for lack of memory.

    Attributes:
      seconds: the time of compilation.
      refusal: the compiler's reason to refuse the program; None if it compiled.
      arguments, outputs, temporary, code: memory in bytes.
      aliased: the bytes of outputs that take the place of donated arguments.
      flops: floating-point operations as the compiler counts them, with the body of a loop once.
      accessed: bytes read and written, with the body of a loop once.
      collectives: the collectives of the program.
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
        """The bytes that a chip's memory holds at once."""
        parts = (self.arguments, self.outputs, self.temporary, self.code)
        if self.aliased is None or None in parts:
            return None
        return sum(part for part in parts if part is not None) - self.aliased


def compile_for(lowered: Lowered, devices: int) -> Demands:
    """Compiles a program for `devices` devices and returns its requirements on each of them."""
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
