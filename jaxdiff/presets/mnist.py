"""MNIST, class-conditional: trains in 20 minutes on two CPU cores.

`--data.data-dir` names a TFDS directory that holds `mnist`.
"""

from jaxdiff.networks import UNet
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, OptimizerConfig, SampleConfig, TrainConfig

CONFIG = Config(
    data=DataConfig(name="mnist"),
    diffusion=DiffusionConfig(process="vp_cosine", parametrization="v", times="stratified", label_dropout=0.1),
    network=UNet(channels=16, multipliers=(1, 2, 4), num_blocks=1, attention_levels=(2,)),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(steps=2000, batch_size=64, ema_half_life=20_000, sample_every=1000, checkpoint_every=1000),
    sample=SampleConfig(solver="ddim", grid="uniform_time", steps=50, guidance=1.5),
)
