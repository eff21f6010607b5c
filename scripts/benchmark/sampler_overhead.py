"""The cost of sampling beyond the cost of the network: `python scripts/benchmark/sampler_overhead.py`.

The script divides the time of a whole sampling call by the time of the bare network, which a scan calls as often on its
own output. In the environment that `make_environment.py peers` makes, it does the same for diffusers: its DPM-Solver++
2M scheduler, in a loop around a PyTorch network of the same size. All programs are compiled beforehand and measured in
turn within one run. A ratio is taken within each round, and the table shows the median over the rounds, so that a
machine that slows down slows both sides. On a machine that has other work, read the ratio in processor time.

The script also counts how often a sampler is compiled for solvers of one shape, and measures its memory at 10 and at
1,000 steps.
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
from peers import ddpm_unet

import jaxdiff as jd
from jaxdiff import checks
from jaxdiff.cli import command_line
from jaxdiff.networks import UNet

PROCESS = jd.processes.vp_discrete()
EPS = jd.parametrizations.eps()
OURS, BARE, THEIRS = "dpm_solver_pp 2", "network in a scan", "diffusers DPM-Solver++ 2M"


def main(
    networks: Literal["mlp", "unet", "both"] = "both",
    rounds: int = 15,
    unet_rounds: int = 3,
    unet_steps: int = 20,
    unet_batch: int = 8,
) -> None:
    """Measures, and prints tables in Markdown.

    Args:
      networks: the networks to sample from.
      rounds: the number of measurements of each call, for the MLP.
      unet_rounds: the number of measurements of each call, for the U-Net. A round takes about a minute on two cores.
      unet_steps: the number of evaluations, for the U-Net.
      unet_batch: the batch size, for the U-Net.
    """
    arguments = {"rounds": rounds, "unet_rounds": unet_rounds, "unet_steps": unet_steps, "unet_batch": unet_batch}
    for name, value in arguments.items():
        checks.integer(name, value)
    print(machine.describe())
    torch, diffusers = machine.peer("torch"), machine.peer("diffusers")
    if torch is not None:
        torch.set_num_threads(os.cpu_count())
    peers = None if torch is None or diffusers is None else (torch, diffusers)
    if networks in ("mlp", "both"):
        for batch in (1, 256):
            mlp(batch, 50, rounds, peers)
        compilations_and_memory()
    if networks in ("unet", "both"):
        unet(unet_batch, unet_steps, unet_rounds, peers)


# ----------------------------------------------------------------------------------- the measuring


@dataclasses.dataclass(frozen=True)
class Call:
    """A call to measure: `prepare` is not timed; `run` is timed, and returns when its result is there."""

    run: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    base: str = BARE


def measure(calls: dict[str, Call], rounds: int, seconds: float) -> dict[str, np.ndarray]:
    """Returns wall and processor seconds of each call, `[rounds, 2]`. A round repeats a call for about `seconds`."""
    repeats = {}
    for name, call in calls.items():
        _once(call)  # compiles
        repeats[name] = max(1, round(seconds / _once(call)[0]))
    times: dict[str, list[np.ndarray]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.3)  # after this time, threads of the other package no longer wait in a busy loop
            times[name].append(np.median([_once(call) for _ in range(repeats[name])], axis=0))
    return {name: np.array(found) for name, found in times.items()}


def _once(call: Call) -> tuple[float, float]:
    call.prepare()
    wall, processor = time.perf_counter(), time.process_time()
    call.run()
    return time.perf_counter() - wall, time.process_time() - processor


def report(title: str, calls: dict[str, Call], times: dict[str, np.ndarray], batch: int) -> None:
    """Prints a table with one row per call: medians over the rounds."""
    print(f"\n{title}\n\n| | ms | samples / s | over its network | in processor time | throughput over diffusers |")
    print("|---|---|---|---|---|---|")
    for name, found in times.items():
        wall, processor = np.median(found / times[calls[name].base], axis=0)
        faster = f"{np.median(times[THEIRS][:, 0] / found[:, 0]):.1f}" if THEIRS in times else ""
        middle = np.median(found[:, 0])
        row = (name, f"{1e3 * middle:.4g}", f"{batch / middle:.4g}", f"{wall:.3f}", f"{processor:.3f}", faster)
        print(f"| {' | '.join(row)} |", flush=True)


def samplers(key: Any, denoiser: Any, x: Any, steps: int, everything: bool) -> dict[str, Call]:
    """Our calls, with the denoiser and the tableau on the device, as for any call that takes microseconds."""
    sample, placed = jax.jit(lambda *arguments: jd.sample(*arguments)), jax.device_put(denoiser)
    times = jd.grids.discrete(PROCESS, steps)
    tableau = jd.solvers.dpm_solver_pp(PROCESS, times, variant="midpoint")
    tableaux: dict[str, Any] = {OURS: jax.device_put(tableau)}
    if everything:
        tableaux |= {
            "ddim": jax.device_put(jd.solvers.ddim(PROCESS, times)),
            "dpm_solver_pp 3": jax.device_put(jd.solvers.dpm_solver_pp(PROCESS, times, order=3)),
            "heun, half the steps": jax.device_put(jd.solvers.heun(PROCESS, times[::2])),
            "ddpm, which draws noise": jax.device_put(jd.solvers.ddpm(PROCESS, times)),
            f"{OURS}, tableau in NumPy": tableau,
        }
    return {
        name: Call(functools.partial(lambda table: jax.block_until_ready(sample(key, placed, x, table)), table))
        for name, table in tableaux.items()
    }


def bare(apply: Callable[..., Any], params: Any, x: Any, steps: int) -> Call:
    """The network alone, called as often as by a sampler."""

    @jax.jit
    def scan(params: Any, x: Any, times: Any) -> Any:
        return jax.lax.scan(lambda x, t: (apply(params, x, jnp.full(x.shape[:1], t)), None), x, times)[0]

    times = jnp.asarray(jd.grids.discrete(PROCESS, steps)[:-1], jnp.float32)
    return Call(lambda: jax.block_until_ready(scan(params, x, times)))


def diffusers_calls(peers: tuple[Any, Any], predict: Callable[[Any, Any], Any], x: Any, steps: int) -> dict[str, Call]:
    """Their network in a Python loop, without and with their scheduler. Setting the steps is not timed."""
    torch, diffusers = peers
    scheduler = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=1000, timestep_spacing="trailing")

    def network() -> Any:
        with torch.inference_mode():
            y = x
            for t in scheduler.timesteps:
                y = predict(y, t)
            return y

    def loop() -> Any:
        with torch.inference_mode():
            y = x
            for t in scheduler.timesteps:
                y = scheduler.step(predict(y, t), t, y).prev_sample
            return y

    prepare = functools.partial(scheduler.set_timesteps, steps)
    name = "PyTorch network in a loop"
    return {name: Call(network, prepare, name), THEIRS: Call(loop, prepare, name)}


# ------------------------------------------------------------------------------------ the networks


def mlp(batch: int, steps: int, rounds: int, peers: Any) -> None:
    """Measures an MLP for points of the plane: two hidden layers of 128, with time as a third input; equal weights."""
    rng = np.random.default_rng(0)
    shapes = [(3, 128), (128, 128), (128, 2)]
    weights = [rng.normal(size=shape).astype(np.float32) / np.sqrt(shape[0], dtype=np.float32) for shape in shapes]
    noise = rng.normal(size=(batch, 2)).astype(np.float32)

    def apply(params: Any, x: Any, t: Any) -> Any:
        h = jnp.concatenate([x, t[:, None] / 1000], axis=1)
        for weight in params[:-1]:
            h = jax.nn.silu(h @ weight)
        return h @ params[-1]

    params, x = [jnp.asarray(w) for w in weights], jnp.asarray(noise)
    denoiser = jd.denoisers.from_network(PROCESS, EPS, apply, params)
    calls = {BARE: bare(apply, params, x, steps)}
    calls |= samplers(jax.random.key(0), denoiser, x, steps, everything=True)
    if peers is not None:
        torch = peers[0]
        theirs = [torch.from_numpy(w) for w in weights]

        def predict(x: Any, t: Any) -> Any:
            h = torch.cat([x, (t / 1000).expand(len(x), 1)], dim=1)
            for weight in theirs[:-1]:
                h = torch.nn.functional.silu(h @ weight)
            return h @ theirs[-1]

        calls |= diffusers_calls(peers, predict, torch.from_numpy(noise), steps)
    times = measure(calls, rounds, seconds=0.05)
    report(f"128-wide MLP, batch {batch}, {steps} steps", calls, times, batch)
    if peers is not None:
        calls[THEIRS].prepare()
        ours, other = np.asarray(calls[OURS].run()), calls[THEIRS].run().numpy()
        difference = np.sqrt(np.mean((ours - other) ** 2) / np.mean(other**2))
        print(f"\nThe same samples: relative rms difference to diffusers {difference:.1e}")


def unet(batch: int, steps: int, rounds: int, peers: Any) -> None:
    """Measures DDPM's network for CIFAR-10: 35.7M parameters, random weights."""
    network = UNet()
    x = jax.random.normal(jax.random.key(1), (batch, 32, 32, 3))
    params = network.init(jax.random.key(0), x[:1], jnp.zeros(1))
    denoiser = jd.denoisers.from_network(PROCESS, EPS, network.apply, params)
    calls = {BARE: bare(network.apply, params, x, steps)}
    calls |= samplers(jax.random.key(0), denoiser, x, steps, everything=False)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(params))]
    if peers is not None:
        torch, diffusers = peers
        model = ddpm_unet(diffusers, 32).eval()
        sizes.append(sum(p.numel() for p in model.parameters()))
        images = torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())
        calls |= diffusers_calls(peers, lambda y, t: model(y, t).sample, images, steps)
    times = measure(calls, rounds, seconds=0.0)
    title = f"U-Net of {' and '.join(f'{size:,}' for size in sizes)} parameters, batch {batch}, {steps} steps"
    report(title, calls, times, batch)


def compilations_and_memory() -> None:
    """Counts compilations for tableaux of one shape, and prints a sampler's memory at 10 and at 1,000 steps."""
    solvers, denoiser, x, key = jd.solvers, jd.denoisers.gaussian(PROCESS), jnp.zeros((256, 2)), jax.random.key(0)
    sample: Any = jax.jit(lambda *arguments: jd.sample(*arguments))
    grid = jd.grids.discrete(PROCESS, 10)
    made = [solvers.ddim(PROCESS, grid), solvers.euler(PROCESS, grid), solvers.dpm_solver_pp(PROCESS, grid, order=1)]
    for tableau in made:
        sample(key, denoiser, x, tableau)
    print(f"\n{len(made)} solvers of one shape: {sample._cache_size()} compilation")
    print("\n| steps | temporary | output | arguments but the tableau |\n|---|---|---|---|")
    for steps in (10, 1000):
        tableau = solvers.dpm_solver_pp(PROCESS, jd.grids.discrete(PROCESS, steps), order=3, tau=0.5)
        memory = sample.lower(key, denoiser, x, tableau).compile().memory_analysis()
        table = sum(np.asarray(leaf, np.float32).nbytes for leaf in jax.tree.leaves(tableau))
        sizes = (memory.temp_size_in_bytes, memory.output_size_in_bytes, memory.argument_size_in_bytes - table)
        print(f"| {steps} | {' | '.join(f'{size:,} bytes' for size in sizes)} |")


if __name__ == "__main__":
    command_line.run(main)
