"""A processor as several devices of JAX."""

import os

import jax


def divide_cpu(devices: int) -> None:
    """Makes the host's processor that many devices of JAX, which share its cores.

    XLA runs a layer of few channels on one core. Several devices run such a layer on several cores, each for its part
    of the batch: the step of the preset `digits` is 1.4 times as fast with two devices on two cores. Other devices,
    such as GPUs, stay as they are.

    Nothing changes if JAX has been used in this process before, or if `XLA_FLAGS` or `JAX_NUM_CPU_DEVICES` gives a
    number.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if devices == 1 or told or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # JAX's devices are fixed from their first use
        return
