"""Optimisers: Optax chains from settings."""

import optax

from jaxdiff.training.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW after clipping by the global norm, with linear warm-up and a constant or cosine rate.

    Loshchilov & Hutter 2019 (arXiv 1711.05101).

    Args:
      steps: the length of training, over which a cosine falls to 0.
    """
    warmup = min(config.warmup, steps - 1) if config.decay == "cosine" else config.warmup
    if config.decay == "cosine":
        rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)
    else:
        rate = optax.linear_schedule(0.0, config.learning_rate, warmup) if warmup else config.learning_rate
    adam = optax.adamw(rate, b1=config.beta1, b2=config.beta2, eps=config.tolerance, weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip), adam) if config.clip else adam
