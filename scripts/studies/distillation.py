"""Digits and their names in words, distilled from a frozen teacher: the run of the studies, with all parts in play.

The teacher is a run of the same model, which is trained first:

    python scripts/train.py scripts/studies/distillation.py --objective.kind Denoising --run-dir teacher
    python scripts/train.py scripts/studies/distillation.py --objective.teacher teacher --run-dir student

The objective has parameters and mutable values of its own, and groups of parameters with optimisers of their own. The
encoder of the names is trained jointly with the network, and the teacher has an encoder of its own, which is frozen.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdiff import processes, trees
from jaxdiff.augmentations import Flip
from jaxdiff.components import Part, choose
from jaxdiff.conditions import Text
from jaxdiff.data import Dataset, Digits, Examples, from_arrays
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import Sinusoidal, TextTransformer
from jaxdiff.networks.module import Network
from jaxdiff.objectives import Context, Group, Loss, Objective
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclasses.dataclass(frozen=True)
class NamedDigits(Dataset):
    """The digits of scikit-learn, `image`, with their names in words, `caption`."""

    def open(self) -> Examples:
        """The training part of the digits."""
        digits = Digits().open()
        records = [digits.source[i] for i in range(len(digits))]
        images = np.stack([record["image"] for record in records])
        return from_arrays(image=images, caption=[NAMES[int(record["label"])] for record in records])


class Attending(Network):
    """A dense network that attends to tokens.

    Attributes:
      width: the number of units.
    """

    takes: ClassVar[tuple[str, ...]] = ("tokens",)
    width: int = 64

    @nn.compact
    def __call__(self, x: Any, time: Any, cond: Any = None, key: Any = None) -> Any:
        """The output for images `[batch, h, w, c]` and tokens."""
        h = nn.Dense(self.width, name="dense_in")(x.reshape(len(x), -1))
        h = h + nn.Dense(self.width, name="time")(Sinusoidal()(time, 32))
        for name, _ in self.specs:
            values, mask = cond[name]["values"], cond[name]["mask"]
            attention = nn.MultiHeadDotProductAttention(2, name=name)
            h = h + attention(h[:, None], values, mask=mask[:, None, None])[:, 0]
        h = h + nn.Dense(self.width, name="out")(nn.silu(nn.Dense(2 * self.width, name="in")(nn.silu(h))))
        return nn.Dense(x[0].size, name="dense_out")(nn.silu(h)).reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class Distillation(Objective):
    """The student shall estimate the clean example as the teacher does, in units of the error that is usual.

    Attributes:
      teacher: the run directory of the teacher, a diffusion model with the same conditions.
    """

    teacher: Part

    def load(self, open: Callable[[str], Any]) -> Any:
        """The teacher, as a model with weights."""
        return open(self.teacher)

    def init(self, model: Any, key: Any) -> PyTree:
        """The logarithm of the usual error, which is learned."""
        return {"u": jnp.zeros(())}

    def extra(self, model: Any) -> PyTree:
        """A running mean of the error."""
        return {"error": jnp.ones(())}

    def groups(self) -> tuple[Group, ...]:
        """The objective learns slowly, and the encoder of the names is updated in every other step."""
        return Group("^objective", rate=0.5), Group(r"^conditions\.", every=2, max_grad_norm=0.5)

    def make(self, model: Any) -> Any:
        """The loss of a bound diffusion model."""

        def objective(params: PyTree, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x0, process, teacher = batch["x"], model.process(params), context.frozen
            random = trees.batch_key(key, trees.batch_size(x0))
            share = jax.vmap(jax.random.uniform)(random.each(0))
            t = process.t_min + (process.t_max - process.t_min) * share
            noisy = processes.corrupt(process, x0, trees.normal_like(random.each(1), x0), t)
            known = teacher.denoiser_of(teacher.encode(batch["fields"]))(noisy, t).x0
            found = model.denoiser(params, batch["cond"], keys=random.each(2))(noisy, t).x0
            error = trees.mean_square(trees.lincomb((1.0, -1.0), (found, known)))
            u = params["objective"]["u"]
            mean = 0.9 * context.extra["error"] + 0.1 * jnp.mean(error)
            return Loss(error * jnp.exp(-u) + u, {"error": error, "usual": context.extra["error"]}, {"error": mean})

        return objective


CONFIG = Config(
    data=NamedDigits(),
    augmentations=(Flip(),),
    model=Diffusion(
        network=Attending(),
        process=choose(processes.vp_cosine),
        conditions={"name": Text(encoder=TextTransformer(width=32, depth=1, heads=2, length=8), dropout=0.2)},
    ),
    objective=Distillation("teacher"),
    # The gradient of a key's bias in attention is 0 but for rounding. A smaller epsilon would make it a whole step.
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=10, eps=1e-5),
    train=TrainConfig(steps=100, batch_size=32, log_every=5, sample_every=0, checkpoint_every=100),
    sample=Sampling(steps=2),
)
