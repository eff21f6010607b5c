"""Emoji with captions, with a tiny network and a text encoder that is trained with it.

`--data.data_dir` names the TFDS directory.
"""

from jaxdiff import parametrizations, processes
from jaxdiff.augmentations import Flip
from jaxdiff.components import choose
from jaxdiff.conditions import Text
from jaxdiff.data import Tfds
from jaxdiff.data.features import Picture
from jaxdiff.data.features import Text as Captions
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import TextTransformer, UNet
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Tfds("emoji", fields={"image": Picture(size=32), "caption": Captions()}),
    augmentations=(Flip(),),
    model=Diffusion(
        network=UNet(channels=16, multipliers=(1, 2, 2), num_blocks=1, attention_levels=(2,)),
        process=choose(processes.vp_cosine),
        parametrization=choose(parametrizations.v),
        conditions={"text": Text(encoder=TextTransformer(width=64, depth=2, heads=4, length=48), pooled=True)},
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup=50),
    train=TrainConfig(steps=120, batch_size=16, ema_half_life=2000, log_every=25, sample_every=0),
    sample=Sampling(steps=30, guidance=ClassifierFree(2.0)),
)
