"""Optimisers: Optax chains from settings."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from jaxdiff import trees
from jaxdiff.checks import integer, not_negative, positive, require

# The first and the last layer of our networks, and what time and condition are embedded with.
_NOT_HIDDEN = ("conv_in", "dense_in", "conditioning", "conv_out", "dense_out")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; or Muon for matrices and AdamW for everything else."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 200
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    """The learning rate after the warm-up."""
    decay_after: int = 70_000
    """Steps at the full rate before `inverse_sqrt` sets in."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """Largest global norm of the gradient, which is scaled down to it; 0 for no limit."""
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    """Adam's epsilon."""
    max_skipped: int = 100
    """Consecutive steps without a finite gradient, which change nothing, before training stops."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps"):
            positive(name, getattr(self, name))
        for name in ("weight_decay", "max_grad_norm"):
            not_negative(name, getattr(self, name))
        integer("warmup", self.warmup, least=0, most=2**31 - 1)
        for name in ("decay_after", "max_skipped"):
            integer(name, getattr(self, name), most=2**31 - 1)
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "numbers from 0 to below 1")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW or Muon after clipping by the global norm, at the rate of `make_schedule`.

    AdamW: Loshchilov & Hutter 2019 (arXiv 1711.05101). Muon, for the hidden matrices (see `is_hidden_matrix`), AdamW
    for everything else: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/). Its momentum is 0.95, with
    Nesterov's correction, made orthogonal by five Newton-Schulz iterations, a convolution's kernel
    `[*space, in, out]` as the matrix `[space * in, out]`; then it is scaled by `0.2 sqrt(max(rows, columns))`, which
    gives it the root mean square that AdamW's updates commonly have, so that one learning rate and one weight decay
    serve both: Liu et al. 2025 (arXiv 2502.16982), section 2.2.

    Args:
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
        optimizer = optax.partition({"muon": muon, "adamw": optimizer}, _labels)
    return (
        optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optimizer) if config.max_grad_norm else optimizer
    )


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule | float:
    """The learning rate of step k = 0, 1, ...: linear warm-up, and then constant, a cosine to 0, or EDM2's

        learning_rate min(k / warmup, 1) / sqrt(max(k / decay_after, 1))

    Karras et al. 2024 (EDM2, arXiv 2312.02696).
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
    """Whether Muon takes a leaf: a `kernel` with at least two axes in the network's `params`, but for those of its
    first and last layer and of the embeddings of time and condition.

    So Muon's author recommends: scalars, vectors (biases, scales of norms), embeddings, input and output layers are
    left to AdamW. Queries, keys and values, one kernel in our attention, are one matrix.

    Args:
      path: the names of the leaf, such as `("params", "mid_block_0", "conv_in", "kernel")`.
    """
    return (
        len(path) > 2 and path[0] == "params" and path[1] not in _NOT_HIDDEN and path[-1] == "kernel" and leaf.ndim >= 2
    )


def _labels(params: PyTree) -> PyTree:
    def label(path: Any, leaf: Any) -> str:
        return "muon" if is_hidden_matrix(trees.words_of(path), leaf) else "adamw"

    return jax.tree_util.tree_map_with_path(label, params)


def _as_matrices(kernels: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), kernels)


def _scale_as_adam(update: Any, _: Any) -> Any:
    columns = update.shape[-1]
    return update * (0.2 * max(update.size // columns, columns) ** 0.5)
