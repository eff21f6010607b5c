"""Rates are held to a clock that the test sets."""

import contextlib
import time
import types

import pytest

from jaxdiff.logging.throughput import Meter, peak_flops


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def devices(kind, count=1):
    return [types.SimpleNamespace(device_kind=kind)] * count


def test_rates_cover_the_time_since_the_last_report():
    clock = Clock()
    meter = Meter(32, 100, flops_per_step=1e12, devices=devices("NVIDIA H100 80GB HBM3", 2), clock=clock)
    clock.now += 10
    assert meter.rates(150, waited=2.5) == pytest.approx(
        {"images_per_second": 50 * 32 / 10, "data_wait": 0.25, "mfu": 5e12 / (2 * 989.4e12)}
    )
    clock.now += 4
    rates = meter.rates(160, waited=2.5)
    assert rates == pytest.approx({"images_per_second": 80, "data_wait": 0, "mfu": 2.5e12 / (2 * 989.4e12)})


def test_a_pause_does_not_count_as_training():
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


def test_a_pause_first_waits_for_the_device_and_counts_that_time():
    clock = Clock()

    class Pending:
        def block_until_ready(self):
            clock.now += 3

    meter = Meter(6, devices=devices("cpu"), clock=clock)
    with meter.pause(Pending()):
        clock.now += 100
    assert meter.rates(2, waited=0.0)["images_per_second"] == pytest.approx(4)


def test_without_a_known_peak_of_every_device_there_is_no_mfu():
    for kinds in (devices("cpu"), devices("NVIDIA A100-SXM4-40GB") + devices("cpu")):
        clock = Clock()
        meter = Meter(1, flops_per_step=1.0, devices=kinds, clock=clock)
        clock.now += 1
        assert set(meter.rates(1, 0.0)) == {"images_per_second", "data_wait"}


def test_the_default_clock_measures_real_time():
    began = time.perf_counter()
    meter = Meter(3)
    time.sleep(0.05)
    with meter.pause():
        time.sleep(0.1)
    rate = meter.rates(5, 0.0)["images_per_second"]
    worked = time.perf_counter() - began - 0.1
    # A sleep may last longer than asked for, but not shorter.
    assert 15 / worked <= rate <= 15 / 0.05


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


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"flops_per_step": 0.0}, {"flops_per_step": float("nan")}])
def test_wrong_arguments_are_named(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"^{name} = {value}; allowed are"):
        Meter(**{"batch_size": 1, **bad})
