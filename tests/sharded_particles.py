"""Particles on four devices beside the same particles on one: prints the largest differences.

`test_particles.py` runs it in a process of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jaxdiff as jd

PROCESS = jd.processes.edm(0.01, 20.0)
DENOISERS = [jd.denoisers.gaussian(PROCESS, mean, std) for mean, std in ((0.0, 1.0), (1.0, 0.6))]
TIMES = jd.grids.karras(PROCESS, 20)
MESH = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
ROWS = PartitionSpec("rows")


def run(key, x, populations=1):
    # Resampling at almost every step.
    return jd.sampling.feynman_kac(
        key, DENOISERS, x, TIMES, exponents=(-1.0, 2.0), populations=populations, resample_below=0.95
    )


print(f"devices: {len(jax.devices())}")
key, x = jax.random.key(0), jd.prior_sample(jax.random.key(1), PROCESS, (64, 2))
spread = jax.jit(run)(key, jax.device_put(x, NamedSharding(MESH, ROWS)))
alone = jax.jit(run)(key, x)
for name in ("x", "log_weights", "log_evidence"):
    print(f"{name}: {np.max(np.abs(np.asarray(getattr(spread, name)) - np.asarray(getattr(alone, name)))):.1e}")

keys = jax.random.split(key, 4)
mapped = jax.shard_map(lambda keys, x: run(keys, x).x, mesh=MESH, in_specs=(ROWS, ROWS), out_specs=ROWS)
wanted = jax.jit(run, static_argnames="populations")(keys, x, populations=4).x
print(f"x of populations on devices of their own: {jnp.max(jnp.abs(jax.jit(mapped)(keys, x) - wanted)):.1e}")
