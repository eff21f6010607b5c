"""Consistency distillation: an objective with a teacher. Song et al. 2023 (arXiv 2303.01469), algorithm 2."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from additions import blobs, small
from jaxdiff import averages, parametrizations, processes, trees
from jaxdiff.components import Part, choose
from jaxdiff.conditions import Label
from jaxdiff.models import Diffusion
from jaxdiff.objectives import Context, Loss, Objective
from jaxdiff.processes import corrupt
from jaxdiff.runs.config import Config


@dataclasses.dataclass(frozen=True)
class ConsistencyDistillation(Objective):
    """The estimates before and after one DDIM step of the teacher shall agree.

    Attributes:
      teacher: the run directory of the teacher.
      steps: the number of steps of the teacher's sampler.
      decay: the decay of the average that the later estimate shall agree with.
    """

    teacher: Part
    steps: int = 8
    decay: float = 0.9

    def load(self, open: Callable[[str], Any]) -> Any:
        return open(self.teacher)

    def averages(self) -> Mapping[str, averages.Rule]:
        return {"target": averages.constant(self.decay)}

    def make(self, model: Any) -> Any:
        def objective(params: Any, key: Any, batch: Mapping[str, Any], context: Context) -> Loss:
            x0, cond, process = batch["x"], batch.get("cond"), model.process(params)
            random = trees.batch_key(key, trees.batch_size(x0))
            i = jax.vmap(lambda k: jax.random.randint(k, (), 1, self.steps + 1))(random.each(0))
            late, early = (process.t_min + (process.t_max - process.t_min) * n / self.steps for n in (i, i - 1))
            noisy = corrupt(process, x0, trees.normal_like(random.each(1), x0), late)
            known = context.frozen.bound.denoiser(context.frozen.params, cond)(noisy, late)
            quieter = corrupt(process, known.x0, known.eps, early)
            said = model.denoiser(params, cond)(noisy, late).x0
            wanted = model.denoiser(context.averages["target"], cond)(quieter, early).x0
            distance = trees.mean_square(trees.lincomb((1.0, -1.0), (said, jax.lax.stop_gradient(wanted))))
            return Loss(distance, {"distance": distance})

        return objective


MODEL = Diffusion(
    network=small.NETWORK,
    process=choose(processes.edm, sigma_max=20.0),
    parametrization=choose(parametrizations.edm),
    conditions={"label": Label()},
)
TEACHER = Config(data=blobs.Blobs(), model=MODEL, optimizer=small.OPTIMIZER, train=small.TRAIN, sample=small.SAMPLE)
PARTS = {"teacher": TEACHER}
CONFIG = Config(
    data=blobs.Blobs(),
    model=MODEL,
    objective=ConsistencyDistillation("teacher"),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
