"""Throughput: images per second, time spent waiting for data, and the share of the devices' peak."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from jaxdiff.checks import integer, positive

# Dense bfloat16 FLOP/s of one JAX device, by words of its `device_kind`. The longest entry that fits holds. A TPU v2,
# v3 or v7 chip is two JAX devices, so its entry is half the peak of the chip.
_PEAKS = (
    # https://docs.cloud.google.com/tpu/docs/system-architecture-tpu-vm, and its page for each version
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
    # NVIDIA's data sheets. They often give twice this number, which holds for matrices with 2:4 sparsity.
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
    """Measures the throughput of training between two reports.

    Args:
      batch_size: examples per step, over all devices and processes.
      start_step: the number of finished steps.
      flops_per_step: floating-point operations per step, over all devices and processes, as
        `jaxdiff.training.flops.flops_of` counts them; None leaves `mfu` out.
      devices: the devices that share the step; None for all devices of the job.
      clock: returns seconds since any fixed moment.

    Raises:
      ValueError: `batch_size` is less than 1, or `flops_per_step` is not a positive number.
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
        integer("batch_size", batch_size)
        if flops_per_step is not None:
            positive("flops_per_step", flops_per_step)
        devices = jax.devices() if devices is None else devices
        peaks = [peak_flops(device.device_kind) for device in devices]
        self._peak = None if flops_per_step is None or None in peaks else sum(peak for peak in peaks if peak)
        self._batch_size, self._flops, self._clock = batch_size, flops_per_step, clock
        self._step, self._waited = start_step, 0.0
        self._since, self._paused = clock(), 0.0

    def rates(self, step: int, waited: float) -> dict[str, float]:
        """The rates since the last call, or since the meter was made.

        The device must have finished `step`: it has when the metrics of this step are on the host.

        Args:
          step: the number of finished steps.
          waited: the seconds that the loop has waited for data since it began.

        Returns:
          `images_per_second`; `data_wait`, the share of the time spent waiting for data, from 0 to 1; and, where the
          peak of every device is known, `mfu`, the model FLOP utilisation: the operations per second as a share of the
          bfloat16 peak of the devices (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
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
        """A context whose time is not counted: for pictures, checkpoints, compilation.

        Args:
          pending: results of training that the device may not have finished, such as the train state. The meter waits
            for these first, and counts that time.
        """
        jax.block_until_ready(pending)
        began = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - began


def peak_flops(device_kind: str) -> float | None:
    """The dense bfloat16 peak of one JAX device, in FLOP/s, by its `device_kind`; None for an unknown kind."""
    # Names such as "RTX A4000" resemble those of data-centre cards, but the peaks differ.
    if "RTX" in device_kind:
        return None
    longest_first = sorted(_PEAKS, key=lambda entry: -len(entry[0]))
    found = (peak for words, peak in longest_first if re.search(rf"\b{words}\b", device_kind))
    return next(found, None)
