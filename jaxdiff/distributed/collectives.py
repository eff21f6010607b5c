"""What processes tell each other, about a checkpoint say: all of them go on, or all raise an error.

These functions are collective and belong on the thread that runs the training steps: told from another thread, they
could come between the collectives of a step in one order here and in another order there.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxdiff.checks import one_line

T = TypeVar("T")

# One size for every message, so that one program is compiled for all of them.
_BYTES = 2048


def gather(text: str) -> list[str]:
    """The texts of all processes, in their order; of several processes, no more than 2048 bytes of each."""
    if jax.process_count() == 1:
        return [text]
    data = text.encode()[:_BYTES].ljust(_BYTES, b"\0")
    rows = np.asarray(multihost_utils.process_allgather(np.frombuffer(data, np.uint8)))
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]


def broadcast_from_first(action: Callable[[], int], error: type[Exception] = ValueError) -> int:
    """Runs `action` on the first process alone, and returns its result on all of them.

    Raises:
        error: on the others, if it raised on the first, which raises what it met; with the same words.
    """
    failure, answer = None, ""
    if jax.process_index() == 0:
        try:
            answer = f"={action()}"
        except Exception as met:
            failure, answer = met, one_line(met)
    answer = gather(answer)[0]
    if failure is not None:
        raise failure
    if not answer.startswith("="):
        raise error(answer)
    return int(answer[1:])


def on_all(action: Callable[[], T], error: type[Exception] = ValueError) -> T:
    """Runs `action` on every process and returns its result there, or raises on all of them if it raised on any.

    Raises:
        error: where it did not raise, with the words of the first process on which it did; those raise what they met.
    """
    failure = None
    try:
        result = action()
    except Exception as met:
        failure = met
    reasons = gather("" if failure is None else one_line(failure))
    if failure is not None:
        raise failure
    for reason in reasons:
        if reason:
            raise error(reason)
    return result
