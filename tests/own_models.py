"""Data, networks and a loss that are nobody's components, as a user of `jd.fit` has them."""

import os
import signal
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdiff as jd
from jaxdiff.runs.fit import fit

VECTORS = np.random.default_rng(0).normal(1.0, 0.3, (256, 16)).astype(np.float32)
LABELS = np.arange(256) % 4


class Vectors(nnx.Module):
    """An NNX network of vectors with 16 entries."""

    def __init__(self, rngs, dropout=0.1):
        self.layers = nnx.List([nnx.Linear(17, 24, rngs=rngs), nnx.Linear(24, 16, rngs=rngs)])
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x, time):
        first, last = self.layers
        return last(self.dropout(nnx.silu(first(jnp.concatenate([x, time[:, None] / 1000], axis=1)))))


class Normalised(nn.Module):
    """A Linen network with batch statistics, which is told a class."""

    width: int = 24

    @nn.compact
    def __call__(self, x, time, label, train: bool):
        told = jnp.concatenate([x, time[:, None] / 1000, jax.nn.one_hot(label, 5)], axis=1)
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(self.width)(told))
        return nn.Dense(x.shape[-1])(nn.Dropout(0.1, deterministic=not train)(nn.silu(h)))


class Untold(nn.Module):
    """A Linen network that is told the time alone."""

    @nn.compact
    def __call__(self, x, time):
        return nn.Dense(x.shape[-1])(x)


def of_noise(model, params, key, batch):
    """The mean squared error of the noise, at times of flow matching."""
    x, (t_key, noise_key) = batch["x"], jax.random.split(key)
    t, noise = jax.random.uniform(t_key, x.shape[:1]), jax.random.normal(noise_key, x.shape)
    x_t = jd.corrupt(model.process(params), x, noise, t)
    output = model.apply(params, x_t, t, key=jax.random.split(key, len(x)))
    return jnp.mean((output - noise) ** 2, axis=1)


def of_class(model, params, key, batch):
    """The square of the output for data without noise, with their class."""
    x = batch["x"]
    return jnp.mean(model.apply(params, x, jnp.zeros(len(x)), batch["cond"], key=jax.random.split(key, len(x))) ** 2)


def vectors(directory=None, dropout=0.1, **options):
    """A run of `Vectors` with the loss `of_noise` and an Optax transformation."""
    given = {"steps": 30, "batch_size": 16, "log_every": 1, "checkpoint_every": 4, "sample_every": 0} | options
    return fit(
        Vectors(nnx.Rngs(0), dropout),
        VECTORS,
        objective=of_noise,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
        directory=directory,
        progress=False,
        **given,
    )


def normalised(directory=None, **options):
    """A run of `Normalised` with the usual objective of a diffusion model."""
    given = {"steps": 30, "batch_size": 16, "log_every": 1, "checkpoint_every": 4, "sample_every": 0} | options
    data = {"x": VECTORS, "label": LABELS}
    return fit(Normalised(), data, directory=directory, optimizer=1e-3, progress=False, **given)


def killed(directory, last):
    """Trains `vectors` in a process that is killed after the step `last`."""

    def kill(step, metrics):
        time.sleep(0.05)  # so that some checkpoints are complete
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    vectors(directory, callbacks=[kill])
