"""What denoisers and rules remember between the steps of a sampler; nothing, if they have no memory."""

from typing import Any, NoReturn

from jaxtyping import PyTree

from jaxdiff.denoisers import Denoiser
from jaxdiff.parametrizations import Estimate


class Remembering:
    """A base of denoisers with a memory, which cannot be called without it."""

    def __call__(self, x: PyTree, t: Any, s: Any = None) -> NoReturn:
        raise ValueError("a denoiser that remembers its steps, such as APG with momentum, is called by samplers alone")


def has_memory(thing: Any) -> bool:
    """Whether a denoiser or a rule remembers something."""
    return hasattr(thing, "start") and hasattr(thing, "with_memory")


def first_memory(thing: Any, x: PyTree) -> Any:
    """The memory before the first step, for data of the shape of x."""
    return thing.start(x) if has_memory(thing) else ()


def remember(denoiser: Denoiser, memory: Any, x: PyTree, t: Any) -> tuple[Estimate, Any]:
    """The estimate of a denoiser, and its next memory."""
    if not has_memory(denoiser):
        return denoiser(x, t), memory
    found: tuple[Estimate, Any] = denoiser.with_memory(memory, x, t)  # type: ignore[attr-defined]
    return found
