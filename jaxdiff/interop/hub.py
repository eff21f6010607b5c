"""Folders of the Hugging Face hub, by their names."""

import os
import re
from pathlib import Path

from jaxdiff.checks import message, one_line
from jaxdiff.extras import needed

# `owner/name` or `owner/name@revision`: a branch, a tag or a commit.
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
# The parts of a pipeline lie in subfolders. Single files of all weights lie beside them, and are left out, as are other
# formats and copies in half precision.
_WANTED = ["model_index.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
_OTHERS = ["*.fp16.*", "*.non_ema.*", "*onnx*", "*openvino*", "*flax*"]


def local_folder(place: str | os.PathLike[str]) -> Path:
    """The folder at a path; or else the folder of that name on the hub, downloaded by `huggingface_hub` once.

    Args:
      place: the path of a folder, or `owner/name` or `owner/name@revision` of a pipeline on the hub.

    Raises:
      ValueError: there is no such folder here, and the hub was not reached or has none.
      ModuleNotFoundError: there is no such folder here, and `huggingface_hub` is not installed.
    """
    path, text = Path(place), os.fspath(place)
    name = _NAME.fullmatch(text)
    if path.exists() or name is None or text.startswith("."):
        return path
    allowed = "folders that exist, and names on the hub (`owner/name`)"
    with needed(f"{text!r}, a name on the hub,"):
        import huggingface_hub
    try:
        found = huggingface_hub.snapshot_download(
            name[1], revision=name[2], allow_patterns=_WANTED, ignore_patterns=_OTHERS
        )
    except Exception as error:  # the errors of the hub have no base of their own
        raise ValueError(message("folder", text, f"{allowed}; {one_line(error)}")) from error
    return Path(found)
