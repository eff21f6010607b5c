"""How fast a run trains: images a second, the time spent waiting for data, and the share of the devices' peak."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

# Dense bfloat16 FLOP/s of one JAX device, by words of its kind; of several that fit the longest holds. A TPU v2, v3 or
# v7 chip is two JAX devices, so theirs is half of the chip's.
_PEAKS = (
    # https://docs.cloud.google.com/tpu/docs/system-architecture-tpu-vm and the pages of the versions beside it
    ("TPU v2", 45e12 / 2),
    ("TPU v3", 123e12 / 2),
    ("TPU v4", 275e12),
    ("TPU v4 lite", 138e12),  # Jouppi et al. 2021, table 1
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),  # v5p
    ("TPU v5p", 459e12),
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
    ("TPU7x", 2307e12 / 2),
    # NVIDIA's data sheets, which often give twice as much: that is for matrices half of which is zeros
    ("A100", 312e12),
    ("A30", 165e12),
    ("A40", 149.7e12),
    ("L4", 121e12),
    ("L40S", 362e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989.4e12),
    ("GH200", 989.4e12),
    ("H200", 989.4e12),
    ("B200", 2250e12),
    ("GB200", 2500e12),
)


class Meter:
    """Measures training between two reports: what is done within `pause` is not counted.

    Args:
      batch_size: examples a step, over all devices and processes.
      start_step: the number of finished steps.
      flops_per_step: floating-point operations of one step, over all devices and processes (see `flops.flops_of`); None
        leaves `mfu` out.
      devices: those that share the step; None for all of this job's.
      clock: seconds, from any origin.

    Raises:
      ValueError: `batch_size` is less than 1, or `flops_per_step` not a positive number.
    """

    def __init__(
        self,
        batch_size: int,
        start_step: int = 0,
        *,
        flops_per_step: float | None = None,
        devices: Sequence[Any] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}; allowed are positive integers")
        if flops_per_step is not None and not 0 < flops_per_step < math.inf:
            raise ValueError(f"flops_per_step = {flops_per_step}; allowed are positive numbers")
        devices = jax.devices() if devices is None else devices
        peaks = [peak_flops(device.device_kind) for device in devices]
        self._peak = None if flops_per_step is None or None in peaks else sum(peak for peak in peaks if peak)
        self._batch_size, self._flops, self._clock = batch_size, flops_per_step, clock
        self._step, self._waited = start_step, 0.0
        self._since, self._paused = clock(), 0.0

    def rates(self, step: int, waited: float) -> dict[str, float]:
        """The rates since the lap before, or since the meter was made.

        The device must have finished `step`, as it has once its metrics are on the host.

        Args:
          step: number of finished steps.
          waited: seconds that the loop has waited for data so far, in all.

        Returns: `images_per_second`; `data_wait`, the share of the time that went by waiting for data, from 0 to 1; and,
          where the peak of every device is known, `mfu`: the floating-point operations made a second, as a share of
          what the devices could make in bfloat16 (Chowdhery et al. 2022, arXiv
          2204.02311, appendix B).
        """
        now = self._clock()
        seconds = max(now - self._since - self._paused, 1e-9)
        steps_per_second = (step - self._step) / seconds
        rates = {
            "images_per_second": steps_per_second * self._batch_size,
            "data_wait": min(max((waited - self._waited) / seconds, 0.0), 1.0),
        }
        if self._peak is not None and self._flops is not None:
            rates["mfu"] = steps_per_second * self._flops / self._peak
        self._step, self._waited = step, waited
        self._since, self._paused = now, 0.0
        return rates

    @contextlib.contextmanager
    def pause(self, pending: PyTree = None) -> Iterator[None]:
        """Within it time is not counted: for pictures, checkpoints, compilation.

        Args:
          pending: the train state, or whatever else the device is still to make: that is waited for first, and counted.
        """
        jax.block_until_ready(pending)
        began = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - began


def peak_flops(device_kind: str) -> float | None:
    """The dense bfloat16 peak of one JAX device of that `device_kind`, in FLOP/s; None where it is not known."""
    # "RTX 2000 Ada" and the like share a number, not a peak, with the cards of data centres.
    if "RTX" in device_kind:
        return None
    longest_first = sorted(_PEAKS, key=lambda entry: -len(entry[0]))
    found = (peak for words, peak in longest_first if re.search(rf"\b{words}\b", device_kind))
    return next(found, None)
