"""Captions through a frozen encoder in a folder of transformers: a condition."""

from pathlib import Path

from text_folders import write_encoder

from additions import blobs, small
from additions.text import Attending
from jaxdiff.conditions import PretrainedText
from jaxdiff.models import Diffusion
from jaxdiff.runs.config import Config


def write_folder(folder: Path) -> None:
    """A tiny BERT with a vocabulary of a few words."""
    write_encoder(folder, "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bright", "left", "right", "half"]
    (folder / "vocab.txt").write_text("\n".join(words))


PARTS = {"encoder": write_folder}
CONFIG = Config(
    data=blobs.Blobs(),
    model=Diffusion(network=Attending(), conditions={"text": PretrainedText("encoder", length=6)}),
    optimizer=small.OPTIMIZER,
    train=small.TRAIN,
    sample=small.SAMPLE,
)
ASKED = {"text": "bright left half"}
