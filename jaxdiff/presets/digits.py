"""scikit-learn's handwritten digits, class-conditional: trains in minutes on two CPU cores."""

from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Digits
from jaxdiff.models import Diffusion
from jaxdiff.networks import UNet
from jaxdiff.runs.config import Config, OptimizerConfig, ParallelConfig, TrainConfig

CONFIG = Config(
    data=Digits(),
    model=Diffusion(
        network=UNet(channels=24, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), dropout=0.1),
        process=choose(processes.vp_cosine),
        parametrization=choose(parametrizations.v),
        conditions={"label": Label(dropout=0.1)},
    ),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(steps=1600, batch_size=128, ema_half_life=20_000, sample_every=800, checkpoint_every=800),
    parallel=ParallelConfig(cpu_devices=2),
)
