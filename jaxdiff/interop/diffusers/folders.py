"""The files of a folder of diffusers."""

from pathlib import Path

import numpy as np

from jaxdiff.interop.tensors import read_tensors

_STEMS = ("diffusion_pytorch_model", "model")


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder: of one file, or of the files that an index lists.

    Raises:
      ValueError: the folder has no such file, or it cannot be read.
    """
    for stem in _STEMS:
        for name in (f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{stem}.fp16.safetensors"):
            if (folder / name).exists():
                return read_tensors(folder / name)
    pickles = [
        path for stem in _STEMS for path in (folder / f"{stem}.bin", folder / f"pytorch_{stem}.bin") if path.exists()
    ]
    # Reading a pickle says why it is refused.
    return read_tensors(pickles[0] if pickles else folder / f"{_STEMS[0]}.safetensors")
