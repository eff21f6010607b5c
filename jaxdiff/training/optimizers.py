"""Optimisers: settings, and the Optax transformations that they describe."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from jaxdiff import trees
from jaxdiff.checks import integer, not_negative, positive, require
from jaxdiff.training.state import MAX_STEPS

# The first layer, the last layer, and the embedding of time and conditions in `jaxdiff.networks`.
_NOT_HIDDEN = ("conv_in", "dense_in", "conditioning", "conv_out", "dense_out")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; or Muon for matrices and AdamW for everything else."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 200
    """Number of steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    """The learning rate after the warm-up."""
    decay_after: int = 70_000
    """Number of steps before `inverse_sqrt` starts to lower the learning rate."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """Largest global norm of the gradient. A larger gradient is scaled down to it; 0 for no limit."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    """Adam's epsilon."""
    max_skipped: int = 100
    """Number of consecutive skipped steps that stops training. A step without a finite gradient is skipped."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps"):
            positive(name, getattr(self, name))
        for name in ("weight_decay", "max_grad_norm"):
            not_negative(name, getattr(self, name))
        integer("warmup", self.warmup, least=0, most=MAX_STEPS)
        for name in ("decay_after", "max_skipped"):
            integer(name, getattr(self, name), most=MAX_STEPS)
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "numbers from 0 to below 1")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Makes AdamW or Muon, with the learning rate of `make_schedule`, after clipping by the global norm.

    AdamW is that of Loshchilov & Hutter 2019 (arXiv 1711.05101). Muon is that of Jordan et al. 2024
    (https://kellerjordan.github.io/posts/muon/): its updates are Nesterov momentum with a decay of 0.95, made
    orthogonal by five Newton-Schulz iterations. Muon takes the hidden matrices (`is_hidden_matrix`), and AdamW takes
    all other leaves. The kernel of a convolution, `[*space, in, out]`, is the matrix `[space * in, out]`. Muon's
    updates are multiplied by `0.2 sqrt(max(rows, columns))`, which gives them the usual root mean square of AdamW's
    updates. One learning rate and one weight decay then serve both: Liu et al. 2025 (arXiv 2502.16982), section 2.2.

    Args:
      config: the settings.
      steps: the length of training, over which a cosine falls to 0.
    """
    rate = make_schedule(config, steps)
    optimizer = optax.adamw(rate, b1=config.beta1, b2=config.beta2, eps=config.eps, weight_decay=config.weight_decay)
    if config.name == "muon":
        muon = optax.chain(
            scale_by_muon(weight_dimension_numbers=_as_matrices),
            optax.stateless_with_tree_map(_scale_as_adam),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(rate),
        )
        optimizer = optax.partition({"muon": muon, "adamw": optimizer}, _groups)
    if not config.max_grad_norm:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optimizer)


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule | float:
    """Makes the learning rate as a function of the step k = 0, 1, ...

    A linear warm-up precedes a constant rate, a cosine to 0, or the inverse square root of Karras et al. 2024 (EDM2,
    arXiv 2312.02696):

        learning_rate min(k / warmup, 1) / sqrt(max(k / decay_after, 1))

    Args:
      config: the settings.
      steps: the length of training, over which a cosine falls to 0.
    """
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, min(config.warmup, steps - 1), steps)
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup) if config.warmup else config.learning_rate
    if config.schedule == "constant":
        return warmup

    def inverse_sqrt(count: Any) -> Any:
        rate = warmup(count) if callable(warmup) else warmup
        return rate / jnp.sqrt(jnp.maximum(count / config.decay_after, 1.0))

    return inverse_sqrt


def is_hidden_matrix(path: tuple[str, ...], leaf: Any) -> bool:
    """Whether Muon takes a leaf: a `kernel` with at least two axes inside the network.

    The author of Muon recommends AdamW for scalars, for vectors (biases, scales of norms), for embeddings, and for the
    input and output layers. The kernel of queries, keys and values is one matrix.

    Args:
      path: the names of the leaf, such as `("params", "mid_block_0", "conv_in", "kernel")`.
      leaf: the leaf, or its shape and type.
    """
    return (
        len(path) > 2 and path[0] == "params" and path[1] not in _NOT_HIDDEN and path[-1] == "kernel" and leaf.ndim >= 2
    )


def _groups(params: PyTree) -> PyTree:
    def group(path: Any, leaf: Any) -> str:
        return "muon" if is_hidden_matrix(trees.words_of(path), leaf) else "adamw"

    return jax.tree_util.tree_map_with_path(group, params)


def _as_matrices(kernels: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), kernels)


def _scale_as_adam(update: Any, _: Any) -> Any:
    columns = update.shape[-1]
    return update * (0.2 * max(update.size // columns, columns) ** 0.5)
