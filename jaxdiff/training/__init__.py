"""Training as pure functions of JAX and Optax: no files, no devices. `jaxdiff.runs` trains with them.

A loop of one's own:

    averages = training.ema(0.999)
    step = jax.jit(training.make_step(objective, optimizer, averages))
    state = training.initial_state(params, optimizer, key, averages)
    for batch in batches:
        state, metrics = step(state, batch)

- `state.py`: the train state, everything that a step reads and writes
- `ema.py`: averages of the parameters
- `step.py`: the pure step `(state, batch) -> (state, metrics)`
- `optimizers.py`: settings of the optimiser, and the Optax transformation that they describe
- `posthoc_ema.py`: averages of any width, computed from snapshots after training
- `flops.py`: the number of floating-point operations of a function
"""

from jaxdiff.extras import needed

with needed("jaxdiff.training"):
    from jaxdiff.training.ema import ema
    from jaxdiff.training.state import State, initial_state
    from jaxdiff.training.step import make_step

__all__ = ["State", "ema", "initial_state", "make_step"]
