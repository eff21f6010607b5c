"""Points in the plane: trains in seconds on a CPU, to try out a method."""

from jaxdiff.networks import MLP
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, OptimizerConfig, SampleConfig, TrainConfig

CONFIG = Config(
    data=DataConfig(name="checkerboard"),
    diffusion=DiffusionConfig(process="flow", parametrization="velocity", times="uniform"),
    network=MLP(width=128, num_blocks=3),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(steps=4000, batch_size=1024, ema_half_life=100_000, sample_every=2000, checkpoint_every=2000),
    sample=SampleConfig(solver="ddim", grid="uniform_time", steps=50),
)
