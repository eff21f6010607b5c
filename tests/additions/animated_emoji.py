"""Animated emoji: videos of 8 frames, with a tiny transformer. `--data.data_dir` names the TFDS directory."""

from additions.patches import Patches
from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.data import Tfds
from jaxdiff.data.features import Video
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Tfds("fluent_animated", fields={"video": Video(8, size=32, rate=5, every=2)}),
    model=Diffusion(
        network=Patches(patch=(2, 8, 8), width=192),
        process=choose(processes.vp_cosine),
        parametrization=choose(parametrizations.v),
        field="video",
    ),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup=50),
    train=TrainConfig(steps=400, batch_size=32, ema_half_life=2000, log_every=40, sample_every=0),
    sample=Sampling(steps=20),
)
