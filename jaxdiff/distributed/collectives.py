"""Agreement between processes: all of them continue, or all raise an error.

These functions are collective: every process calls them in the same order. Call them only on the thread that runs the
training steps. On another thread they could run between the collectives of a step, in a different order on each
process.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxdiff.checks import one_line

T = TypeVar("T")

# All messages have the same size, so that JAX compiles one program for all of them.
_BYTES = 2048


def gather(text: str) -> list[str]:
    """The texts of all processes, in their order. With several processes, each text is cut after 2048 bytes."""
    if jax.process_count() == 1:
        return [text]
    data = text.encode()[:_BYTES].ljust(_BYTES, b"\0")
    rows = np.asarray(multihost_utils.process_allgather(np.frombuffer(data, np.uint8)))
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]


def broadcast_from_first(action: Callable[[], int], error: type[Exception] = ValueError) -> int:
    """Runs `action` on the first process only, and returns its result on all processes.

    Raises:
      error: on the other processes, if `action` raised on the first one. The text is the same. The first process raises
        the original exception.
    """
    failure, answer = None, ""
    if jax.process_index() == 0:
        try:
            answer = f"={action()}"
        except Exception as raised:
            failure, answer = raised, one_line(raised)
    answer = gather(answer)[0]
    if failure is not None:
        raise failure
    if not answer.startswith("="):
        raise error(answer)
    return int(answer[1:])


def on_all(action: Callable[[], T], error: type[Exception] = ValueError) -> T:
    """Runs `action` on every process, and returns its result there. If it raises on one process, all of them raise.

    Raises:
      error: on the processes where `action` did not raise, with the text of the first process where it did. A process
        where it raised raises the original exception.
    """
    failure = None
    try:
        result = action()
    except Exception as raised:
        failure = raised
    reasons = gather("" if failure is None else one_line(failure))
    if failure is not None:
        raise failure
    for reason in reasons:
        if reason:
            raise error(reason)
    return result
