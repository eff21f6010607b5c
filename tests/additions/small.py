"""The settings that the presets of the additions share: a tiny network and few steps."""

from jaxdiff.models import Sampling
from jaxdiff.networks import UNet
from jaxdiff.runs.config import OptimizerConfig, TrainConfig

NETWORK = UNet(channels=8, multipliers=(1, 2), num_blocks=1, attention_levels=(), mid_attention=False)
OPTIMIZER = OptimizerConfig(learning_rate=4e-3, warmup=5)
TRAIN = TrainConfig(steps=40, batch_size=16, ema_half_life=100, log_every=1, sample_every=0, checkpoint_every=20)
SAMPLE = Sampling(steps=4)
