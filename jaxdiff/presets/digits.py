"""scikit-learn's handwritten digits, class-conditional: trains in minutes on two CPU cores."""

from jaxdiff.networks import UNet
from jaxdiff.runs.config import Config, DataConfig, DiffusionConfig, OptimizerConfig, SampleConfig, TrainConfig

CONFIG = Config(
    data=DataConfig(name="digits"),
    diffusion=DiffusionConfig(process="vp_cosine", parametrization="v", times="stratified", label_dropout=0.1),
    network=UNet(channels=24, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), dropout=0.1),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=100, schedule="cosine"),
    train=TrainConfig(steps=1600, batch_size=128, ema_half_life=20_000, sample_every=800, checkpoint_every=800),
    sample=SampleConfig(solver="ddim", grid="uniform_time", steps=50),
)
