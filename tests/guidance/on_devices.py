"""Guidance on eight devices: prints the collectives of a batched call, and the difference of samples within `shard_map`.

`test_guidance_cost.py` runs it in a process of its own.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jaxdiff as jd
from jaxdiff import denoisers, guidance, parametrizations, solvers, trees

MESH = jax.make_mesh((8,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
ROWS, WHOLE = PartitionSpec("rows"), PartitionSpec()
KEY, PROCESS = jax.random.key(0), jd.processes.flow()
X = jd.prior_sample(KEY, PROCESS, (16, 4))
TABLEAU = solvers.ddim(PROCESS, 4)


def network(params, x, time, cond):
    return jnp.tanh(x @ params) * cond[:, None] + time[:, None]


def sampled(params, label, x):
    """Samples by a batched call of both conditions, in an interval, with a memory and a gradient."""

    def of(cond):
        return denoisers.from_network(PROCESS, parametrizations.velocity(), network, params, cond)

    pair = guidance.both(of(trees.interleave([label, 0 * label])))
    guided = guidance.reward(guidance.apg(*pair, 2.0, momentum=-0.5), trees.mean_square, 0.1)
    return jd.sample(KEY, guidance.interval(guided, of(label), 0.3, 3.0), x, TABLEAU)


if __name__ == "__main__":
    params, label = jnp.eye(4), jnp.linspace(0, 1, 16)
    rows, whole = (NamedSharding(MESH, spec) for spec in (ROWS, WHOLE))
    program = jax.jit(sampled, in_shardings=(whole, rows, rows), out_shardings=rows)
    text = program.lower(params, label, X).compile().as_text()
    print(sorted(set(re.findall(r"(all-\w+|collective-\w+|reduce-scatter)\(", text))))
    alone = jax.jit(sampled)(params, label, X)
    mapped = jax.jit(jax.shard_map(sampled, mesh=MESH, in_specs=(WHOLE, ROWS, ROWS), out_specs=ROWS))
    print(max(np.abs(f(params, label, X) - alone).max() for f in (program, mapped)) < 1e-5)
