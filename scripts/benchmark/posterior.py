"""The cost of posterior methods: `python scripts/benchmark/posterior.py`.

The script evaluates the U-Net of the `digits` preset and the methods around it. All programs are compiled beforehand
and measured in turn within one run. The cost of a method is its time over the time of the plain denoiser within the
same round. The table shows the median over the rounds. On a machine that has other work, read the processor time.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np

import jaxdiff as jd
from jaxdiff import checks
from jaxdiff.cli import command_line
from jaxdiff.networks import UNet
from jaxdiff.posterior import operators

PROCESS = jd.processes.vp_cosine()
PLAIN = "the denoiser alone"


def main(
    batch: int = 64,
    side: int = 8,
    rounds: int = 9,
    repeats: int = 3,
    methods: tuple[str, ...] = ("dps", "mmps", "mmps 2"),
) -> None:
    """Measures, and prints a table in Markdown.

    Args:
      batch: the batch size.
      side: the side of the pictures, 8 as the digits have.
      rounds: the number of measurements of each method.
      repeats: the number of evaluations in a measurement.
      methods: the methods: diffpir, dps, pigdm, tmpd, mmps; `mmps 2` and `mmps 3` have more iterations.
    """
    for name, value in {"batch": batch, "side": side, "rounds": rounds, "repeats": repeats}.items():
        checks.integer(name, value)
    print(machine.describe())
    run = jax.jit(lambda denoiser, x, t: denoiser(x, t))
    x, t = jax.random.normal(jax.random.key(1), (batch, side, side, 1)), jnp.asarray(0.5)
    known = denoisers(x)
    for name in methods:
        checks.one_of("methods", name, known)
    made = {name: jax.device_put(known[name]) for name in (PLAIN, *methods)}
    times: dict[str, list[list[float]]] = {name: [] for name in made}
    for denoiser in made.values():
        jax.block_until_ready(run(denoiser, x, t))  # compiles
    for _ in range(rounds):
        for name, denoiser in made.items():
            start = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                jax.block_until_ready(run(denoiser, x, t))
            ends = time.perf_counter(), time.process_time()
            times[name].append([(end - begin) / repeats for begin, end in zip(start, ends, strict=True)])
    print(f"\n{batch} pictures of {side} by {side} pixels\n")
    print("| | ms | plain evaluations, by the clock | by processor time |\n|---|---|---|---|")
    for name, found in times.items():
        clock, processor = np.median(np.divide(found, times[PLAIN]), axis=0)
        print(f"| {name} | {1e3 * np.median(found, axis=0)[0]:.3g} | {clock:.2f} | {processor:.2f} |")


def denoisers(x: Any) -> dict[str, Any]:
    """The plain denoiser and the methods, for inpainting with noise."""
    network = UNet(channels=24, multipliers=(1, 2), num_blocks=1, attention_levels=(1,))

    def draw(key: Any) -> Any:
        # A U-Net begins at 0. These weights are those of no training, and take the same time.
        leaves, structure = jax.tree.flatten(network.init(key, x[:1], jnp.zeros(1)))
        keys = jax.random.split(key, len(leaves))
        moved = [leaf + 0.05 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, moved)

    params = jax.jit(draw)(jax.random.key(0))
    prior = jd.denoisers.from_network(PROCESS, jd.parametrizations.v(), network.apply, params)
    mask = operators.mask(np.arange(x.shape[1])[:, None, None] >= x.shape[1] // 2)
    given: tuple[Any, ...] = (prior, mask, mask(jnp.zeros_like(x[:1])), 0.1)
    times = jd.grids.uniform_time(PROCESS, 20)
    return {
        PLAIN: prior,
        "diffpir": jd.posterior.diffpir(*given),
        "dps": jd.posterior.dps(*given[:3], times=times),
        "pigdm": jd.posterior.pigdm(*given),
        "tmpd": jd.posterior.tmpd(*given),
        "mmps": jd.posterior.mmps(*given),
        "mmps 2": jd.posterior.mmps(*given, iterations=2),
        "mmps 3": jd.posterior.mmps(*given, iterations=3),
    }


if __name__ == "__main__":
    command_line.run(main)
