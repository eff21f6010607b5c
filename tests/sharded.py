"""Samplers and likelihoods within `jax.shard_map` on two devices, beside the whole batch on one: prints differences.

`test_shard_map.py` runs it in a process of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import jaxdiff as jd
from jaxdiff import denoisers, grids, likelihood, parametrizations, sampling, solvers

PROCESS = jd.processes.vp_linear()
KEYS = jax.random.split(jax.random.key(0), 4)
MESH = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
X = jd.prior_sample(KEYS, PROCESS, (4, 2))
DATA = jnp.asarray([[0, 3], [1, 1], [2, 0], [3, 2]], jnp.uint8)
GRID = grids.uniform_time(PROCESS, 4)
TIMES = jnp.asarray(GRID)
ROWS, WHOLE = PartitionSpec("rows"), PartitionSpec()


def network(params, x, t):
    return params * x / (1 + x**2 / (1 + t[:, None]))


def varied(params, x, t):
    return jnp.concatenate([network(params, x, t), jnp.tanh(x)], axis=-1)


DENOISER = denoisers.from_network(PROCESS, parametrizations.eps(), network, jnp.asarray([0.7, 0.9]))
VARIED = denoisers.from_network_with_variance(PROCESS, parametrizations.eps(), varied, jnp.asarray([0.7, 0.9]))
DDPM = solvers.ddpm(PROCESS, GRID)


def closed_over(d, keys, x, data):
    inner = denoisers.from_function(PROCESS, lambda x, t: d(x, t).x0)
    return jd.sample(keys, inner, jnp.zeros_like(x), DDPM)


def slope(d, keys, x, data):
    return jax.grad(lambda d: jnp.sum(sampling.adaptive(d, x, max_steps=64)[0] ** 2))(d).params


# Functions `(denoiser, keys, noise, levels)`. Where only keys differ among devices, the state differs after a step.
CASES = {
    "sample": lambda d, keys, x, data: jd.sample(keys, d, x, DDPM),
    "sample of equal noise": lambda d, keys, x, data: jd.sample(keys, d, jnp.zeros((len(keys), 2)), DDPM),
    "sample of a function": closed_over,
    "predictor_corrector": lambda d, keys, x, data: sampling.predictor_corrector(keys, d, x, DDPM, sampling.langevin()),
    "learned_variance": lambda d, keys, x, data: sampling.learned_variance(keys, VARIED, x, TIMES),
    "adaptive": lambda d, keys, x, data: sampling.adaptive(d, x)[0],
    "slope of adaptive": slope,
    "bits": lambda d, keys, x, data: likelihood.bits_per_dimension(keys, d, data, levels=4, times=TIMES),
    "log_density": lambda d, keys, x, data: likelihood.log_density(d, x, times=TIMES).log_density,
    "continuous_time": lambda d, keys, x, data: likelihood.continuous_time(keys, d, data / 1.5 - 1, levels=4).nats,
    "discrete_time": lambda d, keys, x, data: likelihood.discrete_time(keys, DENOISER, data / 1.5 - 1, TIMES).nats,
}

for name, function in CASES.items():
    out = WHOLE if name.startswith("slope") else ROWS
    spread = jax.shard_map(function, mesh=MESH, in_specs=(WHOLE, ROWS, ROWS, ROWS), out_specs=out)
    got, wanted = (np.asarray(jax.jit(f)(DENOISER, KEYS, X, DATA)) for f in (spread, function))
    print(f"{name}: {np.max(np.abs(got - wanted)) / np.max(np.abs(wanted)):.1e}")
