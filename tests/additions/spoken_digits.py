"""Spoken digits: one second of sound, class-conditional, with a tiny network. `--data.data_dir` names the TFDS directory."""

from additions.patches import Patches
from jaxdiff import parametrizations, processes
from jaxdiff.components import choose
from jaxdiff.conditions import Label
from jaxdiff.data import Tfds
from jaxdiff.data.features import Label as Labels
from jaxdiff.data.features import Waveform
from jaxdiff.models import Diffusion, Sampling
from jaxdiff.runs.config import Config, OptimizerConfig, TrainConfig

CONFIG = Config(
    data=Tfds("spoken_digits", fields={"audio": Waveform(4096, rate=8000), "label": Labels()}),
    model=Diffusion(
        network=Patches(patch=(32,)),
        process=choose(processes.vp_cosine),
        parametrization=choose(parametrizations.v),
        field="audio",
        conditions={"label": Label()},
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup=50),
    train=TrainConfig(steps=300, batch_size=32, ema_half_life=2000, log_every=30, sample_every=0),
    sample=Sampling(steps=30),
)
