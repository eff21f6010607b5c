"""The speed of a network beside diffusers' own on this machine: `scripts/benchmark/network_step.py --network dit`.

The script measures examples per second of the forward pass and of a training step (forward, backward and Adam, in
float32) of one of our networks. In the environment that `make_environment.py peers` makes, it also measures diffusers'
network of the same architecture, in PyTorch. Both networks get the same inputs and times, and predict the same noise.

- `ddpm`: the U-Net of DDPM for CIFAR-10 (`UNet2DModel`)
- `dit`: DiT-S/2 on latents of 32 x 32 x 4, with classes (`DiTTransformer2DModel`)
- `mmdit`: Stable Diffusion 3 with 6 blocks of width 384, and 77 tokens (`SD3Transformer2DModel`)

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
from typing import Any, Literal

import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
from peers import ddpm_unet, dit_s, small_mmdit

from jaxdiff.checks import integer
from jaxdiff.cli import command_line
from jaxdiff.networks import MMDiT, UNet, published
from jaxdiff.networks.module import Spec

FORWARD, STEP = "forward", "training step"
LEARNING_RATE = 2e-4


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The sizes of the measurement."""

    network: Literal["ddpm", "dit", "mmdit"] = "ddpm"
    """The network."""
    rounds: int = 7
    """The number of measurements of each call."""
    batch: int = 8
    """The batch size."""
    size: int = 32
    """The height and width of an example."""

    def __post_init__(self) -> None:
        for name in ("rounds", "batch", "size"):
            integer(name, getattr(self, name))


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and what it is told.

    Attributes:
      network: ours, with its conditions.
      channels: the channels of its input.
      cond: the conditions of a batch, as arrays.
      peer: makes the same network of diffusers, from the package and the size of an example.
      call: calls it: `(model, x, t, cond) -> output`, in PyTorch's order of axes.
    """

    network: Any
    channels: int
    cond: dict[str, Any]
    peer: Callable[[Any, int], Any]
    call: Callable[[Any, Any, Any, dict[str, Any]], Any]


def case_of(name: str, batch: int) -> Case:
    """The case of a name."""
    rng = np.random.default_rng(1)
    if name == "ddpm":
        return Case(UNet(), 3, {}, ddpm_unet, lambda model, x, t, cond: model(x, t).sample)
    if name == "dit":
        network = published.dit_s().given({"label": Spec("class", classes=1000)})
        cond = {"label": rng.integers(0, 1000, batch)}
        return Case(network, 4, cond, dit_s, lambda model, x, t, cond: model(x, t, cond["label"]).sample)
    specs = {"text": Spec("tokens", (77, 512)), "pooled": Spec("vector", (256,))}
    values = rng.standard_normal((batch, 77, 512), np.float32)
    cond = {"text": {"values": values, "mask": np.ones((batch, 77), bool)}}
    cond["pooled"] = rng.standard_normal((batch, 256), np.float32)
    network = MMDiT(width=384, depth=6, heads=6).given(specs)
    return Case(
        network, 16, cond, small_mmdit, lambda model, x, t, cond: model(x, cond["text"], cond["pooled"], t).sample
    )


def main(arguments: Arguments) -> None:
    """Measures and prints a table in Markdown."""
    rounds, batch, size = arguments.rounds, arguments.batch, arguments.size
    case = case_of(arguments.network, batch)
    print(machine.describe())
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, batch, size, size, case.channels), np.float32)
    times = rng.uniform(0, 999, batch).astype(np.float32)
    calls, ours = jax_calls(case, x, noise, times)
    torch, diffusers = machine.peer("torch"), machine.peer("diffusers")
    theirs = None
    if torch is not None and diffusers is not None:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        peer_calls, theirs = torch_calls(torch, diffusers, case, x, noise, times)
        calls |= peer_calls
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    counts = f"{ours:,} parameters{'' if theirs is None else f' and {theirs:,}'}"
    print(f"\n{arguments.network}: {counts}, batch {batch}, {size}x{size}x{case.channels}{load}")
    report(measure(calls, rounds), batch)


def jax_calls(case: Case, x: Any, noise: Any, times: Any) -> tuple[dict[tuple[str, str], Callable[[], Any]], int]:
    """The calls of jaxdiff, and the number of parameters of its network."""
    network, optimizer = case.network, optax.adam(LEARNING_RATE)
    x, noise, times, cond = jax.device_put((x, noise, times, case.cond))
    params = jax.jit(network.init)(jax.random.key(0), x, times, cond)

    def loss(params: Any, x: Any, noise: Any, times: Any, cond: Any) -> Any:
        # Of an output with variances, the half that predicts noise.
        output = network.apply(params, x, times, cond)[..., : noise.shape[-1]]
        return jnp.mean(jnp.square(output - noise))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, *batch: Any) -> tuple[Any, Any]:
        params, opt_state = state
        value, gradients = jax.value_and_grad(loss)(params, *batch)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    forward = jax.jit(network.apply)
    kept = {"state": (jax.tree.map(jnp.copy, params), optimizer.init(params))}

    def train() -> None:
        kept["state"], value = step(kept["state"], x, noise, times, cond)
        jax.block_until_ready((kept["state"], value))

    calls = {("jaxdiff", FORWARD): lambda: jax.block_until_ready(forward(params, x, times, cond))}
    return calls | {("jaxdiff", STEP): train}, sum(leaf.size for leaf in jax.tree.leaves(params))


def torch_calls(
    torch: Any, diffusers: Any, case: Case, x: Any, noise: Any, times: Any
) -> tuple[dict[tuple[str, str], Callable[[], Any]], int]:
    """The same calls of the same network in PyTorch, and its number of parameters."""
    model = case.peer(diffusers, x.shape[1])
    x, target = (torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in (x, noise))
    t = torch.from_numpy(times)
    told = {name: value["values"] if isinstance(value, dict) else value for name, value in case.cond.items()}
    cond = {name: torch.from_numpy(value) for name, value in told.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def forward() -> Any:
        with torch.inference_mode():
            return case.call(model, x, t, cond)

    def train() -> None:
        optimizer.zero_grad()
        output = case.call(model, x, t, cond)[:, : target.shape[1]]
        torch.nn.functional.mse_loss(output, target).backward()
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
