"""Points in the plane: trains in seconds on a CPU, to try out a method."""

from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.data import Toy
from jaxdiff.models import Diffusion
from jaxdiff.networks import MLP
from jaxdiff.objectives import Denoising, times
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Toy("checkerboard"),
    model=Diffusion(
        network=MLP(width=128, num_blocks=3),
        process=choose(processes.flow),
        parametrization=choose(parametrizations.velocity),
        field="x",
    ),
    objective=Denoising(times=choose(times.uniform)),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(steps=4000, batch_size=1024, ema_half_life=100_000, sample_every=2000, checkpoint_every=2000),
)
