"""Diffusion in the latents of an autoencoder that was trained before."""

import dataclasses

from additions import blobs, small
from jaxdiff.codecs import Latents
from jaxdiff.conditions import Label
from jaxdiff.models import Autoencoder, Diffusion
from jaxdiff.networks import ConvAutoencoder
from jaxdiff.objectives import Reconstruction
from jaxdiff.runs.config import Config

AUTOENCODER = Config(
    data=blobs.Blobs(),
    model=Autoencoder(network=ConvAutoencoder(channels=4, multipliers=(1, 1), num_blocks=0, latent_channels=3)),
    objective=Reconstruction(),
    optimizer=small.OPTIMIZER,
    train=dataclasses.replace(small.TRAIN, steps=60),
)
PARTS = {"autoencoder": AUTOENCODER}
CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=small.NETWORK, codec=Latents("autoencoder"), conditions={"label": Label()}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
