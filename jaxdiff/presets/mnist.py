"""MNIST, class-conditional: trains in 20 minutes on two CPU cores.

`--data.data_dir` names a TFDS directory that holds `mnist`.
"""

from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Tfds
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import UNet
from jaxdiff.runs.config import Config, OptimizerConfig, ParallelConfig, TrainConfig

CONFIG = Config(
    data=Tfds("mnist"),
    model=Diffusion(
        network=UNet(channels=16, multipliers=(1, 2, 4), num_blocks=1, attention_levels=(2,)),
        process=choose(processes.vp_cosine),
        parametrization=choose(parametrizations.v),
        conditions={"label": Label(dropout=0.1)},
    ),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(steps=2000, batch_size=64, ema_half_life=20_000, sample_every=1000, checkpoint_every=1000),
    parallel=ParallelConfig(cpu_devices=2),
    sample=Sampling(steps=50, guidance=ClassifierFree(1.5)),
)
