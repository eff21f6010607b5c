"""The time of guidance with the U-Net of the `digits` preset: `python scripts/benchmark/guidance_cost.py`.

The script samples with DDIM: without guidance, with classifier-free guidance by two calls of the network, by one call
of both conditions, and in an interval. All programs are compiled beforehand and measured in turn within one run. A
ratio is taken within each round, and the table shows the median over the rounds, in wall time and in processor time. On
a machine that has other work, read the ratio in processor time. The weights are random, which does not change the time.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
from sampler_overhead import Call, measure

import jaxdiff as jd
from jaxdiff import checks, guidance
from jaxdiff.cli import command_line
from jaxdiff.presets.digits import CONFIG

PLAIN, TWO, ONE, PART = "no guidance", "two calls", "one call of both", "one call of both, in the interval"


def main(steps: int = 20, rounds: int = 7, seconds: float = 1.0) -> None:
    """Measures, and prints a table in Markdown.

    Args:
      steps: the number of steps of a sample.
      rounds: the number of measurements of each call.
      seconds: the time of a measurement, in which a call is repeated.
    """
    checks.integer("steps", steps, least=4)
    checks.integer("rounds", rounds)
    print(machine.describe())
    fields = CONFIG.data.open().fields
    bound: Any = CONFIG.model.bind(fields, CONFIG.model.load(lambda path: path))
    rng, shapes = np.random.default_rng(0), jax.eval_shape(bound.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(0.1 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)
    model = bound.loaded(params, {"codec": None, "conditions": {}}, {}, CONFIG.sample)
    print("\n| batch | | ms | over no guidance (wall, processor) | over two calls | evaluations over no guidance |")
    print("|---|---|---|---|---|---|", flush=True)
    for batch in (1, 8):
        table(model, batch, steps, rounds, seconds)


def table(model: Any, batch: int, steps: int, rounds: int, length: float) -> None:
    """Measures at one batch size, and prints its rows: medians over the rounds."""
    times = jd.grids.uniform_time(model.process, steps)
    with np.errstate(divide="ignore"):
        levels = model.process.sigma(times[:-1]) / model.process.alpha(times[:-1])
    low, high = (np.sqrt(levels[i] * levels[i + 1]) for i in (3 * steps // 4, steps // 4))  # between two steps
    share = np.mean((levels > low) & (levels <= high))
    conditional, unconditional = model.denoiser(label=3), model.denoiser()
    denoisers = {
        PLAIN: conditional,
        TWO: guidance.classifier_free(conditional, unconditional, 2.0),
        ONE: model.denoiser(label=3, guidance=2.0),
        PART: model.denoiser(label=3, guidance=guidance.Interval(guidance.ClassifierFree(2.0), low, high)),
    }
    evaluations = {PLAIN: 1.0, TWO: 2.0, ONE: 2.0, PART: 1 + share}
    tableau = jax.device_put(jd.solvers.ddim(model.process, times))
    x = jax.random.normal(jax.random.key(1), (batch, *model.shape), jnp.float32)
    sample, key = jax.jit(lambda *arguments: jd.sample(*arguments)), jax.random.key(2)

    def run(denoiser: Any) -> Any:
        return jax.block_until_ready(sample(key, denoiser, x, tableau))

    calls = {name: Call(functools.partial(run, jax.device_put(denoiser))) for name, denoiser in denoisers.items()}
    found = measure(calls, rounds, length)
    for name, seconds in found.items():
        over = [np.median(seconds / found[base], axis=0) for base in (PLAIN, TWO)]
        ratios = (f"{wall:.2f}, {processor:.2f}" for wall, processor in over)
        row = (batch, name, f"{1e3 * np.median(seconds[:, 0]):.4g}", *ratios, evaluations[name])
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    command_line.run(main)
