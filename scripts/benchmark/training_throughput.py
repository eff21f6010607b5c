"""Training DDPM's U-Net for CIFAR-10 on this machine: `python scripts/benchmark/training_throughput.py`.

Examples per second of the forward pass and of a training step (forward, backward and Adam, in float32) of `UNet()`, and
beside it of diffusers' `UNet2DModel` of the same architecture in PyTorch, when the `bench` extra is installed. Both are
fed the same images and labels, and predict the same noise. They are measured alternately in one run, after calls that
compile and warm up; ratios are medians over the rounds of the ratio within a round, so that a machine that slows down
slows both sides. On a machine that has other work, read the ratio in processor time, with `OMP_WAIT_POLICY=passive` in
the environment: PyTorch's threads otherwise wait for one another in a loop, which counts as processor time.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
from peers import ddpm_unet

from jaxdiff.cli import command_line
from jaxdiff.networks import UNet

FORWARD, STEP = "forward", "training step"
LEARNING_RATE = 2e-4


def main(rounds: int = 7, batch: int = 8, size: int = 32) -> None:
    """Measures and prints a table in Markdown.

    Args:
      rounds: how often each call is measured.
      batch: images in a batch.
      size: height and width of an image.
    """
    for name, value in {"rounds": rounds, "batch": batch, "size": size}.items():
        if value < 1:
            raise ValueError(f"{name} = {value}; allowed are positive integers")
    print(machine.describe())
    rng = np.random.default_rng(0)
    images, noise = rng.standard_normal((2, batch, size, size, 3), np.float32)
    labels = rng.uniform(0, 999, batch).astype(np.float32)
    calls, ours = jax_calls(images, noise, labels)
    torch, diffusers = machine.peer("torch"), machine.peer("diffusers")
    theirs = None
    if torch is not None and diffusers is not None:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        peer_calls, theirs = torch_calls(torch, diffusers, images, noise, labels)
        calls |= peer_calls
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"\n{ours:,} parameters{'' if theirs is None else f' and {theirs:,}'}, batch {batch}, {size}x{size}x3{load}")
    report(measure(calls, rounds), batch)


def jax_calls(images: Any, noise: Any, labels: Any) -> tuple[dict[tuple[str, str], Callable[[], Any]], int]:
    """The calls of this package, and how many parameters the network has."""
    network, optimizer = UNet(), optax.adam(LEARNING_RATE)
    arrays = jax.device_put((images, noise, labels))
    params = jax.jit(network.init)(jax.random.key(0), images[:1], labels[:1])

    def loss(params: Any, images: Any, noise: Any, labels: Any) -> Any:
        return jnp.mean(jnp.square(network.apply(params, images, labels) - noise))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, images: Any, noise: Any, labels: Any) -> tuple[Any, Any]:
        params, opt_state = state
        value, gradients = jax.value_and_grad(loss)(params, images, noise, labels)
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
    torch: Any, diffusers: Any, images: Any, noise: Any, labels: Any
) -> tuple[dict[tuple[str, str], Callable[[], Any]], int]:
    """The same of the same network in PyTorch."""
    model = ddpm_unet(diffusers, images.shape[1])
    x, target = (torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in (images, noise))
    t = torch.from_numpy(labels)
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
            time.sleep(0.3)  # threads of the other package that wait in a loop have given up by then
            wall, processor = time.perf_counter(), time.process_time()
            call()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: np.array(found) for name, found in times.items()}


def report(times: dict[tuple[str, str], np.ndarray], batch: int) -> None:
    """One row a call: the median and the best round, and throughput over diffusers'."""
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
