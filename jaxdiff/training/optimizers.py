"""Optimisers: settings, and the Optax transformations that they describe."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from jaxdiff import trees
from jaxdiff.checks import integer, not_negative, positive, require
from jaxdiff.components import Opaque
from jaxdiff.objectives.objective import Group
from jaxdiff.training.state import MAX_STEPS

# Whether Muon takes a leaf, or whether a leaf is trained, from the names of the leaf, such as
# `("model", "params", "mid_block_0", "kernel")`, and the leaf or its shape and type.
Hidden = Callable[[tuple[str, ...], Any], bool]


def never(path: tuple[str, ...], leaf: Any) -> bool:
    """The rule by which Muon takes no leaf."""
    return False


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; or Muon for matrices and AdamW for everything else."""

    name: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for hidden matrices and AdamW for the rest."""
    learning_rate: float = 1e-3
    """The learning rate after the warm-up."""
    warmup: int = 200
    """Number of steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "constant"
    """The learning rate after the warm-up."""
    decay_after: int = 70_000
    """Number of steps before `inverse_sqrt` starts to lower the learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay, times the learning rate."""
    max_grad_norm: float = 1.0
    """Largest global norm of the gradient. A larger gradient is scaled down to it; 0 for no limit."""
    beta1: float = 0.9
    """Decay of Adam's mean of gradients."""
    beta2: float = 0.999
    """Decay of Adam's mean of squared gradients."""
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


@dataclasses.dataclass(frozen=True)
class OwnOptimizer(Opaque, OptimizerConfig):
    """An Optax transformation of the user's own, which has its own learning rate, schedule and clipping.

    Attributes:
      transformation: the transformation; None for one that has to be given again.
    """

    max_grad_norm: float = 0.0
    transformation: optax.GradientTransformation | None = None

    @property
    def held(self) -> Any:
        return self.transformation


def make_optimizer(
    config: OptimizerConfig,
    steps: int,
    *,
    hidden: Hidden = never,
    trained: Hidden | None = None,
    groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
    """Makes AdamW or Muon, with the learning rate of `make_schedule`, after clipping by the global norm.

    AdamW is that of Loshchilov & Hutter 2019 (arXiv 1711.05101). Muon is that of Jordan et al. 2024
    (https://kellerjordan.github.io/posts/muon/): its updates are Nesterov momentum with a decay of 0.95, made
    orthogonal by five Newton-Schulz iterations. Muon takes the hidden matrices, and AdamW takes all other leaves. The
    kernel of a convolution, `[*space, in, out]`, is the matrix `[space * in, out]`, and a stack of layers has a matrix
    per layer. Muon's updates are multiplied by `0.2 sqrt(max(rows, columns))`, which gives them the usual root mean
    square of AdamW's updates. One learning rate and one weight decay then serve both: Liu et al. 2025
    (arXiv 2502.16982), section 2.2.

    Args:
      config: the settings.
      steps: the length of training, over which a cosine falls to 0.
      hidden: whether Muon takes a leaf. The author of Muon recommends AdamW for scalars, for vectors (biases, scales of
        norms), for embeddings, and for the input and output layers.
      trained: whether a leaf is trained; None for all. Other leaves never change, and have no optimiser state.
      groups: parameters that are optimised in a way of their own. The first group whose pattern fits a leaf takes it.

    Raises:
      ValueError: the pattern of a group fits no leaf (when the optimiser is initialised).
    """

    def labels(params: PyTree) -> PyTree:
        return _labels(params, groups, trained)

    optimizer = _updates(config, steps, hidden)
    if groups or trained is not None:
        of_groups: dict[Any, Any] = {"frozen": optax.set_to_zero()} if trained is not None else {}
        of_groups |= {str(i): _of_group(config, steps, hidden, group) for i, group in enumerate(groups)}
        optimizer = optax.partition({"main": optimizer, **of_groups}, labels)
    if not config.max_grad_norm:
        return optimizer
    clip: optax.GradientTransformation = optax.clip_by_global_norm(config.max_grad_norm)
    # Neither the gradients of frozen leaves nor those of groups with a limit of their own count.
    own = {str(i) for i, group in enumerate(groups) if group.max_grad_norm is not None}
    if own or trained is not None:
        own |= {"frozen"}
        clip = optax.masked(clip, lambda params: jax.tree.map(lambda label: label not in own, labels(params)))
    return optax.chain(clip, optimizer)


def _updates(
    config: OptimizerConfig, steps: int, hidden: Hidden, factor: float = 1.0, every: int = 1
) -> optax.GradientTransformation:
    """AdamW or Muon without clipping, at `factor` times the learning rate, for an update in every `every` steps."""
    if isinstance(config, OwnOptimizer):
        if config.transformation is None:
            raise ValueError("optimizer is an object of the user's own, which has to be given again")
        # Updates are linear in the learning rate.
        return config.transformation if factor == 1 else optax.chain(config.transformation, optax.scale(factor))
    schedule = make_schedule(config, steps)
    # The optimiser counts its updates from 0, and update i is made in step (i + 1) every, also counted from 1.
    rate = (lambda i: factor * schedule((i + 1) * every - 1)) if callable(schedule) else factor * schedule
    optimizer = optax.adamw(rate, b1=config.beta1, b2=config.beta2, eps=config.eps, weight_decay=config.weight_decay)
    if config.name == "adamw":
        return optimizer
    muon = optax.chain(
        scale_by_muon(weight_dimension_numbers=_as_matrices),
        optax.stateless(_scaled_as_adam),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(rate),
    )

    def kinds(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: "muon" if hidden(trees.words_of(path), leaf) else "adamw", params
        )

    return optax.partition({"muon": muon, "adamw": optimizer}, kinds)


def _of_group(config: OptimizerConfig, steps: int, hidden: Hidden, group: Group) -> optax.GradientTransformation:
    optimizer = _updates(config, steps, hidden, group.rate, group.every)
    if group.max_grad_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(group.max_grad_norm), optimizer)
    return optimizer if group.every == 1 else _every(group.every, optimizer)


def _every(number: int, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimiser that updates at the steps `number`, `2 number`, ... with the gradient of this step alone."""

    def init(params: PyTree) -> PyTree:
        return jnp.zeros((), jnp.int32), optimizer.init(params)

    def update(gradients: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count, inner = state[0] + 1, state[1]
        updates, moved = optimizer.update(gradients, inner, params)
        due = count % number == 0
        updates = jax.tree.map(lambda leaf: jnp.where(due, leaf, 0), updates)
        return updates, (count, jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, inner))

    return optax.GradientTransformation(init, update)


def _labels(params: PyTree, groups: Sequence[Group], trained: Hidden | None) -> PyTree:
    """The group of each leaf: its number as text, `main`, or `frozen` for a leaf that is not trained."""
    unused = {group.pattern for group in groups}

    def label(path: Any, leaf: Any) -> str:
        if trained is not None and not trained(trees.words_of(path), leaf):
            return "frozen"
        for i, group in enumerate(groups):
            if re.search(group.pattern, trees.name_of(path)):
                unused.discard(group.pattern)
                return str(i)
        return "main"

    labels = jax.tree_util.tree_map_with_path(label, params)
    require(not unused, "pattern of an optimiser group", ", ".join(sorted(unused)), "patterns that fit a leaf")
    return labels


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


def _as_matrices(kernels: PyTree) -> PyTree:
    def dimensions(path: Any, leaf: Any) -> MuonDimensionNumbers:
        return MuonDimensionNumbers(tuple(range(_first_axis(path), leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(dimensions, kernels)


def _first_axis(path: Any) -> int:
    """The first axis of a matrix: 1 in a stack of layers, each of which is a matrix of its own."""
    return int(trees.is_stacked(trees.words_of(path)))


def _scaled_as_adam(updates: Any, params: Any = None) -> Any:
    def scaled(path: Any, update: Any) -> Any:
        rows, columns = math.prod(update.shape[_first_axis(path) : -1]), update.shape[-1]
        return update * (0.2 * max(rows, columns) ** 0.5)

    return jax.tree_util.tree_map_with_path(scaled, updates)
