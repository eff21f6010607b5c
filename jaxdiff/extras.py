"""The packages that `pip install jaxdiff` does not bring, and the error where one of them is missing.

The core needs JAX, NumPy, SciPy and jaxtyping. Everything else comes with an extra of `pyproject.toml`:
`pip install 'jaxdiff[train]'`.
"""

import contextlib
from collections.abc import Iterator

# For each module that a file of the library imports, the package that holds the module, and the extra that brings the
# package.
PACKAGES = {
    "flax": ("flax", "train"),
    "optax": ("optax", "train"),
    "orbax": ("orbax-checkpoint", "train"),
    "tensorstore": ("tensorstore", "train"),
    "grain": ("grain", "train"),
    "absl": ("absl-py", "train"),
    "tensorflow_datasets": ("tensorflow-datasets", "train"),
    "sklearn": ("scikit-learn", "train"),
    "PIL": ("pillow", "train"),
    "tqdm": ("tqdm", "train"),
    "tensorboardX": ("tensorboardx", "train"),
    "docstring_parser": ("docstring-parser", "train"),
    "safetensors": ("safetensors", "interop"),
    "tokenizers": ("tokenizers", "interop"),
    "sentencepiece": ("sentencepiece", "interop"),
    "huggingface_hub": ("huggingface-hub", "interop"),
    "wandb": ("wandb", "wandb"),
    "blind_watermark": ("blind-watermark", "watermark"),
    "libtpu": ("libtpu", "tpu"),
}


@contextlib.contextmanager
def needed(thing: str) -> Iterator[None]:
    """Turns a missing package of the block into one line that names the extra.

        with needed("jaxdiff.networks"):
            import flax

    Blocks may stand inside each other. The error then names the thing of the outermost block, which the user asked for.

    Args:
      thing: the part of the library that needs the packages, as the user knows it.

    Raises:
      ModuleNotFoundError: a package of `PACKAGES` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in PACKAGES:
            raise
        raise missing(thing, module) from None


def missing(thing: str, module: str) -> ModuleNotFoundError:
    """The error about a module of `PACKAGES` that `thing` needs."""
    package, extra = PACKAGES[module]
    return ModuleNotFoundError(f"{thing} needs the package {package}; pip install 'jaxdiff[{extra}]'", name=module)
