"""Captioned pictures of 512 x 512 with a network of the size of Stable Diffusion 3 medium (arXiv 2403.03206).

`--data.path` names a folder of pictures with `captions.jsonl`, and `--model.codec.run` the run of an autoencoder with
16 channels, eight times smaller than the picture. The encoder of captions is small and trained with the network.
"""

from jaxdiff import grids, parametrizations, processes
from jaxdiff.codecs import Latents
from jaxdiff.components import choose
from jaxdiff.conditions import Text
from jaxdiff.data import Folder
from jaxdiff.guidance import ClassifierFree
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.networks import MMDiT, TextTransformer
from jaxdiff.objectives import Denoising, times
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Folder("pictures", size=512),
    model=Diffusion(
        network=MMDiT(dtype="bfloat16"),
        codec=Latents("runs/autoencoder"),
        process=choose(processes.flow),
        parametrization=choose(parametrizations.velocity),
        conditions={
            "caption": Text(dropout=0.1, encoder=TextTransformer(width=768, depth=12, heads=12, length=256)),
        },
    ),
    objective=Denoising(times=choose(times.logit_normal)),
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup=1000),
    train=TrainConfig(
        steps=500_000,
        batch_size=1024,
        ema_half_life=7_000_000,
        sample_every=10_000,
        checkpoint_every=5_000,
        log_every=100,
    ),
    sample=Sampling(grid=choose(grids.shifted, shift=3.0), steps=28, guidance=ClassifierFree(5.0)),
)
