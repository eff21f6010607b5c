"""Folders of the tiny pipelines of text to image that `references/make_pipelines.py` stored."""

import json
import math
from pathlib import Path

import numpy as np

from jaxdiff.interop.tensors import write_tensors

_STORED = np.load(Path(__file__).parent / "references" / "pipelines.npz")
TEXT = "a photo of a cat"


def _inside(case, kind):
    prefix = f"{case}/{kind}/"
    return {name.removeprefix(prefix): _STORED[name] for name in _STORED.files if name.startswith(prefix)}


def outputs(case):
    """The inputs and outputs of a pipeline by name, and its time."""
    return _inside(case, "outputs") | {"time": float(_STORED[f"{case}/time"])}


def tensors(case, place):
    """The arrays of a file by name."""
    shapes = json.loads(str(_STORED[f"{case}/shapes/{place}"]))
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    flat = np.split(_STORED[f"{case}/weights/{place}"].astype(np.float32), ends[:-1])
    return {name: values.reshape(shape) for (name, shape), values in zip(shapes.items(), flat, strict=True)}


def write_pipeline(folder, case):
    """Writes a pipeline as diffusers does."""
    for place, text in _inside(case, "files").items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(str(text), encoding="utf-8")
    for place in _inside(case, "weights"):
        write_tensors(folder / place, tensors(case, place))
    return folder


def change(path, **entries):
    """Changes entries of a file of JSON."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
