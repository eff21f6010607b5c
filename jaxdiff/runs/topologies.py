"""TPU slices that are not there, as devices that one can compile for.

`libtpu` (`pip install 'jaxdiff[tpu]'`) holds the real TPU compiler, which needs no TPU.
"""

import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from jaxdiff.checks import did_you_mean, message
from jaxdiff.extras import missing


class Chip(NamedTuple):
    """A TPU chip that is one JAX device.

    Attributes:
      memory: the bytes that a program may use, a little less than the chip has. The compiler names this number when it
        refuses a larger program (JAX 0.10.2, libtpu 0.0.52).
      link: the bytes per second that the chip can send to its neighbours: half of its bidirectional bandwidth.
      slices: the shapes of slices that one can rent.
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

# libtpu must neither look for a TPU, nor lock one, nor log to disk.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
}


def open_topology(name: str) -> tuple[Chip, list[Any]]:
    """The chips of a TPU slice, as devices that one can compile for.

    Args:
      name: version and shape of the slice, such as `v5e:16x16` or `v5e-16x16`.

    Returns:
      The kind of chip, and the devices.

    Raises:
      ValueError: the compiler does not know the slice. The error names the nearest slice.
      ImportError: `libtpu` is not installed.
    """
    found = re.fullmatch(r"(\w+)[:-](\d{1,6}(?:x\d{1,6})*)", name)
    if found is None or found[1] not in CHIPS:
        offered = [f"{version}:{shape}" for version, chip in CHIPS.items() for shape in chip.slices]
        allowed = f"{', '.join(CHIPS)} and a shape, as in {offered[7]} or v5p:8x8x8"
        raise ValueError(message("topology", name, allowed) + did_you_mean(name, offered))
    version, shape = found[1], found[2]
    chip, lengths = CHIPS[version], [int(length) for length in shape.split("x")]
    nearest = min(chip.slices, key=lambda other: abs(math.log(_count(other) / max(math.prod(lengths), 1))))
    refused = message("topology", name, ", ".join(chip.slices)) + f"; did you mean '{version}:{nearest}'?"
    # libtpu aborts the process when a slice is empty.
    good = len(lengths) == len(chip.slices[0].split("x")) and 0 < math.prod(lengths) <= max(map(_count, chip.slices))
    if not good:
        raise ValueError(refused)
    if importlib.util.find_spec("libtpu") is None:
        raise missing(f"topology = {name!r}", "libtpu")
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        return chip, list(topologies.get_topology_desc(f"{version}:{shape}", "tpu").devices)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise ValueError(refused) from error


def _count(shape: str) -> int:
    """The number of chips in a slice."""
    return math.prod(int(length) for length in shape.split("x"))
