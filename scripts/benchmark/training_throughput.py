"""Throughput of DDPM's U-Net for CIFAR-10 on this machine: `python scripts/benchmark/training_throughput.py`.

The script measures examples per second of the forward pass and of a training step (forward, backward and Adam, in
float32) of `UNet()`. In the environment that `make_environment.py peers` makes, it also measures diffusers'
`UNet2DModel` of the same architecture, in PyTorch. Both networks get the same images and times, and predict the same
noise.

After calls that compile and warm up, each round measures all calls in turn. Ratios are medians over the rounds of the
ratio within a round, so that a change of the machine's speed cancels. On a machine that has other work, read the ratio
in processor time, with `OMP_WAIT_POLICY=passive` in the environment: otherwise PyTorch's threads wait for each other in
a loop, which counts as processor time.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
from peers import ddpm_unet

from jaxdiff.checks import integer
from jaxdiff.cli import command_line
from jaxdiff.networks import UNet

FORWARD, STEP = "forward", "training step"
LEARNING_RATE = 2e-4


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The sizes of the measurement."""

    rounds: int = 7
    """The number of measurements of each call."""
    batch: int = 8
    """The batch size."""
    size: int = 32
    """The height and width of an image, in pixels."""

    def __post_init__(self) -> None:
        for name in ("rounds", "batch", "size"):
            integer(name, getattr(self, name))


def main(arguments: Arguments) -> None:
    """Measures and prints a table in Markdown."""
    rounds, batch, size = arguments.rounds, arguments.batch, arguments.size
    print(machine.describe())
    rng = np.random.default_rng(0)
    images, noise = rng.standard_normal((2, batch, size, size, 3), np.float32)
    times = rng.uniform(0, 999, batch).astype(np.float32)
    calls, ours = jax_calls(images, noise, times)
    torch, diffusers = machine.peer("torch"), machine.peer("diffusers")
    theirs = None
    if torch is not None and diffusers is not None:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        peer_calls, theirs = torch_calls(torch, diffusers, images, noise, times)
        calls |= peer_calls
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"\n{ours:,} parameters{'' if theirs is None else f' and {theirs:,}'}, batch {batch}, {size}x{size}x3{load}")
    report(measure(calls, rounds), batch)


def jax_calls(images: Any, noise: Any, times: Any) -> tuple[dict[tuple[str, str], Callable[[], Any]], int]:
    """The calls of jaxdiff, and the number of parameters of its network."""
    network, optimizer = UNet(), optax.adam(LEARNING_RATE)
    arrays = jax.device_put((images, noise, times))
    params = jax.jit(network.init)(jax.random.key(0), images[:1], times[:1])

    def loss(params: Any, images: Any, noise: Any, times: Any) -> Any:
        return jnp.mean(jnp.square(network.apply(params, images, times) - noise))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, images: Any, noise: Any, times: Any) -> tuple[Any, Any]:
        params, opt_state = state
        value, gradients = jax.value_and_grad(loss)(params, images, noise, times)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    forward = jax.jit(network.apply)
    kept = {"state": (jax.tree.map(jnp.copy, params), optimizer.init(params))}

    def train() -> None:
        kept["state"], value = step(kept["state"], *arrays)
        jax.block_until_ready((kept["state"], value))

    calls = {("jaxdiff", FORWARD): lambda: jax.block_until_ready(forward(params, arrays[0], arrays[2]))}
    return calls | {("jaxdiff", STEP): train}, sum(leaf.size for leaf in jax.tree.leaves(params))


def torch_calls(
    torch: Any, diffusers: Any, images: Any, noise: Any, times: Any
) -> tuple[dict[tuple[str, str], Callable[[], Any]], int]:
    """The same calls of the same network in PyTorch, and its number of parameters."""
    model = ddpm_unet(diffusers, images.shape[1])
    x, target = (torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in (images, noise))
    t = torch.from_numpy(times)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def forward() -> Any:
        with torch.inference_mode():
            return model(x, t).sample

    def train() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x, t).sample, target).backward()
        optimizer.step()

    count = sum(parameter.numel() for parameter in model.parameters())
    return {("diffusers", FORWARD): forward, ("diffusers", STEP): train}, count


def measure(calls: dict[tuple[str, str], Callable[[], Any]], rounds: int) -> dict[tuple[str, str], np.ndarray]:
    """Wall and processor seconds of each call, `[rounds, 2]`."""
    for call in calls.values():
        call()  # compiles
        call()
    times: dict[tuple[str, str], list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.3)  # the other package's threads, which wait in a loop for a while, have stopped by then
            wall, processor = time.perf_counter(), time.process_time()
            call()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: np.array(found) for name, found in times.items()}


def report(times: dict[tuple[str, str], np.ndarray], batch: int) -> None:
    """Prints one row for each call: the median and the best round, and the ratio to diffusers' throughput."""
    print("\n| | | images / s | in the best round | processor s | over diffusers | in processor time |")
    print("|---|---|---|---|---|---|---|")
    for (package, what), found in times.items():
        middle, best = np.median(found, axis=0), found.min(axis=0)
        row = [package, what, f"{batch / middle[0]:.2f}", f"{batch / best[0]:.2f}", f"{middle[1]:.2f}"]
        peer = times.get(("diffusers", what))
        row += ["", ""] if peer is None else [f"{ratio:.2f}" for ratio in np.median(peer / found, axis=0)]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    command_line.run(main)
