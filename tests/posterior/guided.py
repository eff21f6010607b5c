"""Guidance within a posterior within a solver, transformed in every way, on eight devices: prints differences.

`test_posterior_guided.py` runs it in a process of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jaxdiff as jd

PROCESS = jd.processes.flow()
MESH = jax.make_mesh((8,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
ROWS, WHOLE = PartitionSpec("rows"), PartitionSpec()
TABLEAU = jd.solvers.dpm_solver_pp(PROCESS, jd.grids.uniform_time(PROCESS, 4), order=2, tau=0.5)
MASK = np.array([1.0, 0.0, 1.0, 0.0])


def network(params, x, t, cond):
    return jnp.tanh(x @ params + jnp.sin(t / 1000)[:, None]) + cond


def draw(key, params, mask, observation, x, scale, std):
    """Samples; the key is that of each example, as raw words, which `jax.export` takes."""
    velocity = jd.parametrizations.velocity()
    conditional, unconditional = (
        jd.denoisers.from_network(PROCESS, velocity, network, params, cond) for cond in (0.5, -0.2)
    )
    guided = jd.guidance.classifier_free(conditional, unconditional, scale)
    restored = jd.posterior.mmps(guided, jd.posterior.operators.mask(mask), observation, std, iterations=2)
    return jd.sample(jax.random.wrap_key_data(key), restored, x, TABLEAU)


KEYS = jax.random.key_data(jax.random.split(jax.random.key(0), 8))
RNG = np.random.default_rng(0)
ARGUMENTS = (
    KEYS,
    jnp.asarray(RNG.normal(size=(4, 4)) / 2, jnp.float32),
    jnp.asarray(MASK, jnp.float32),
    jnp.asarray(RNG.normal(size=(8, 4)), jnp.float32),
    jnp.asarray(RNG.normal(size=(8, 4)), jnp.float32),
    jnp.float32(2.0),
    jnp.float32(0.1),
)
PARTS = (ROWS, WHOLE, WHOLE, ROWS, ROWS, WHOLE, WHOLE)


def report(name, got, wanted):
    """One line: the greatest difference relative to the greatest number."""
    print(f"{name}: {np.max(np.abs(got - wanted)) / np.max(np.abs(wanted)):.1e}")


jitted = jax.jit(draw)
single = np.asarray(jitted(*ARGUMENTS))
*first, scale, std = ARGUMENTS
moved = np.asarray(jitted(*first, scale / 2, 3 * std))
assert jitted._cache_size() == 1
assert np.abs(moved - single).max() > 0.05

spread = [jax.device_put(value, NamedSharding(MESH, part)) for value, part in zip(ARGUMENTS, PARTS, strict=True)]
report("jit on eight devices", np.asarray(jitted(*spread)), single)
mapped = jax.jit(jax.shard_map(draw, mesh=MESH, in_specs=PARTS, out_specs=ROWS))
report("shard_map", np.asarray(mapped(*ARGUMENTS)), single)
scales, stds = jnp.array([2.0, 1.0]), jnp.array([0.1, 0.3])
both = jax.jit(jax.vmap(draw, (*(None,) * len(first), 0, 0)))(*first, scales, stds)
report("vmap", np.asarray(both), np.stack([single, moved]))
exported = jax.export.deserialize(jax.export.export(jitted)(*ARGUMENTS).serialize())
report("export", np.asarray(exported.call(*ARGUMENTS)), single)
