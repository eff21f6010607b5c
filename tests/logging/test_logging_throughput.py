"""Rates are held to a clock of the test's own, operations to counts by hand and to XLA's."""

import contextlib
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.logging.throughput import Meter, peak_flops
from jaxdiff.training.flops import flops_of


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def devices(kind, count=1):
    return [types.SimpleNamespace(device_kind=kind)] * count


def test_rates_are_of_the_time_since_the_last_lap():
    clock = Clock()
    meter = Meter(32, 100, flops_per_step=1e12, devices=devices("NVIDIA H100 80GB HBM3", 2), clock=clock)
    clock.now += 10
    assert meter.rates(150, waited=2.5) == pytest.approx(
        {"images_per_second": 50 * 32 / 10, "data_wait": 0.25, "mfu": 5e12 / (2 * 989.4e12)}
    )
    clock.now += 4
    rates = meter.rates(160, waited=2.5)
    assert rates == pytest.approx({"images_per_second": 80, "data_wait": 0, "mfu": 2.5e12 / (2 * 989.4e12)})


def test_what_is_done_in_a_pause_is_not_training():
    clock = Clock()
    meter = Meter(10, devices=devices("cpu"), clock=clock)
    clock.now += 1
    with meter.pause():
        clock.now += 100
    clock.now += 1
    with contextlib.suppress(OSError), meter.pause():
        clock.now += 50
        raise OSError
    assert meter.rates(4, waited=1.0) == pytest.approx({"images_per_second": 20, "data_wait": 0.5})
    clock.now += 1
    assert meter.rates(5, waited=1.0) == pytest.approx({"images_per_second": 10, "data_wait": 0})


def test_a_pause_waits_first_for_what_the_device_is_still_to_make():
    clock = Clock()

    class Pending:
        def block_until_ready(self):
            clock.now += 3

    meter = Meter(6, devices=devices("cpu"), clock=clock)
    with meter.pause(Pending()):
        clock.now += 100
    assert meter.rates(2, waited=0.0)["images_per_second"] == pytest.approx(4)


def test_where_nothing_is_known_of_the_devices_there_is_no_share_of_their_peak():
    for kinds in (devices("cpu"), devices("NVIDIA A100-SXM4-40GB") + devices("cpu")):
        clock = Clock()
        meter = Meter(1, flops_per_step=1.0, devices=kinds, clock=clock)
        clock.now += 1
        assert set(meter.rates(1, 0.0)) == {"images_per_second", "data_wait"}


def test_real_work_takes_the_time_that_it_is_said_to_take():
    began = time.perf_counter()
    meter = Meter(3)
    for _ in range(5):
        time.sleep(0.02)
    with meter.pause():
        time.sleep(0.3)
    rate = meter.rates(5, 0.0)["images_per_second"]
    worked = time.perf_counter() - began - 0.3
    # Longer than asked for both sleeps may be, shorter they are not.
    assert 15 / worked <= rate <= 15 / 0.1


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("TPU v2", 22.5), ("TPU v3", 61.5), ("TPU v4", 275), ("TPU v5 lite", 197), ("TPU v5", 459), ("TPU v6 lite", 918),
        ("TPU7x", 1153.5), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A100-PCIE-40GB", 312), ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756), ("NVIDIA H200", 989.4), ("NVIDIA GH200 480GB", 989.4), ("NVIDIA B200", 2250),
        ("NVIDIA L40S", 362), ("NVIDIA L4", 121), ("cpu", None), ("NVIDIA A10G", None), ("NVIDIA RTX A4000", None),
        ("NVIDIA L40", None), ("Tesla V100-SXM2-16GB", None), ("TPU v4 lite", 138), ("", None),
    ],
)  # fmt: skip
def test_peaks_by_device_kind(kind, tera):
    assert peak_flops(kind) == (None if tera is None else pytest.approx(tera * 1e12))


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolution(x, kernel, stride=1, padding="VALID", groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout, feature_group_count=groups
    )


def test_operations_of_products_and_convolutions_by_hand():
    assert flops_of(lambda a, b: jnp.tanh(a @ b), shape(5, 7), shape(7, 11)) == 2 * 5 * 7 * 11

    def attention(q, k):
        return jnp.einsum("bqhd,bkhd->bhqk", q, k)

    assert flops_of(attention, shape(2, 10, 3, 4), shape(2, 9, 3, 4)) == 2 * (2 * 3) * 10 * 9 * 4
    x = shape(2, 9, 9, 6)
    assert flops_of(convolution, x, shape(3, 3, 6, 5)) == 2 * (2 * 7 * 7 * 5) * (3 * 3 * 6)

    def grouped(x, kernel):
        return convolution(x, kernel, groups=3)

    assert flops_of(grouped, x, shape(3, 3, 2, 12)) == 2 * (2 * 7 * 7 * 12) * (3 * 3 * 2)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_of_a_layer_costs_twice_the_layer(stride):
    # Each multiplication of the layer comes back once for the gradient of either factor. 8 = 2 * 3 + 2: with this
    # stride the windows just cover the picture.
    x, kernel = shape(2, 8, 8, 6), shape(2, 2, 6, 5)

    def layer(x, kernel):
        return convolution(x, kernel, stride)

    def loss(x, kernel):
        return jnp.sum(layer(x, kernel) ** 2)

    forward = flops_of(layer, x, kernel)
    both = flops_of(jax.grad(loss, argnums=(0, 1)), x, kernel)
    weights = flops_of(jax.grad(loss, argnums=1), x, kernel)
    assert weights == 2 * forward
    # The gradient of the picture is counted with the zeros around it, as padding is.
    padded = 1 if stride == 2 else (8 / 7) ** 2
    assert both == pytest.approx(2 * forward + forward * padded)


def test_scans_count_as_often_as_they_turn_and_programs_within_programs_count():
    a, b, once = shape(4, 4), shape(4, 4), 2 * 4**3
    product = jax.jit(lambda a, b: a @ b)
    assert flops_of(lambda a, b: product(product(a, b), b), a, b) == 2 * once

    def scanned(a, b):
        return jax.lax.scan(lambda a, _: (product(a, b), None), a, None, length=7)[0]

    assert flops_of(scanned, a, b) == 7 * once
    assert flops_of(lambda a, b: jax.lax.fori_loop(0, 3, lambda _, a: scanned(a, b), a), a, b) == 21 * once

    def chosen(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: product(a, b), lambda: product(product(a, b), b))

    assert flops_of(chosen, a, b) == 2 * once
    assert flops_of(lambda a: a + 1, a) == 0

    # The gradient of a product is two products, and rematerialisation makes it once more.
    def loss(a, b):
        return jnp.sum(jnp.sin(product(a, b)))

    plain = flops_of(jax.grad(loss, argnums=(0, 1)), a, b)
    again = flops_of(jax.grad(jax.checkpoint(loss), argnums=(0, 1)), a, b)
    assert (plain, again) == (3 * once, 4 * once)


def test_the_step_of_a_network_costs_what_xla_says():
    from jaxdiff.networks import UNet

    network = UNet(channels=32, multipliers=(1, 2), num_blocks=1, attention_levels=(1,))
    x, t = shape(4, 16, 16, 3), shape(4)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), jnp.zeros(1)))

    def loss(params, x, t):
        return jnp.mean(network.apply(params, x, t) ** 2)

    for function in (loss, jax.grad(loss)):
        ours = flops_of(function, params, x, t)
        xla = jax.jit(function).lower(params, x, t).cost_analysis()["flops"]
        # XLA counts the rest too (norms, activations) and leaves the padding out.
        assert np.log(ours / xla) == pytest.approx(0, abs=0.1)


def test_wrong_arguments_are_named():
    for bad in ({"batch_size": 0}, {"flops_per_step": 0.0}, {"flops_per_step": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Meter(**{"batch_size": 1, **bad})
