"""Stops training between two steps when a signal asks for it; all processes stop after the same step."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
from jax._src import distributed  # the store of keys and values that the processes share has no public name
from jax.experimental import multihost_utils

_KEY = "jaxdiff/stopped_by"
_TEXT = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated by SIGTERM: preempted, or its time is over"}


class Stopped(Exception):
    """Training was told to stop by a signal, and has saved.

    Attributes:
      signal: the signal, which this process or another one received.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(_TEXT[number])
        self.signal = number


class Stop:
    """The question whether to stop, as `stopping` yields it: call it after each step."""

    def __init__(self) -> None:
        self._noted: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether to save and raise `reason` now.

        With several processes, each process must ask after the same steps. All get the answer True to the same
        question: the first or the second one after the signal.
        """
        if not jax.distributed.is_initialized():
            return self._noted is not None
        return multihost_utils.reached_preemption_sync_point(_next_question())

    @property
    def reason(self) -> Stopped:
        """The exception to raise after saving."""
        if not jax.distributed.is_initialized():
            return Stopped(self._noted or signal.SIGINT)
        values = dict(_store().key_value_dir_get("jaxdiff/"))
        return Stopped(signal.SIGINT if _KEY in values else signal.SIGTERM)

    def note(self, number: int, _: Any) -> None:
        """Notes a signal. This is the signal handler."""
        self._noted = signal.Signals(number)
        signal.signal(number, _DEFAULT[self._noted])
        if jax.distributed.is_initialized():
            # JAX reacts to SIGTERM only. It then makes the processes agree on a step.
            _store().key_value_set(_KEY, self._noted.name, allow_overwrite=True)
            os.kill(os.getpid(), signal.SIGTERM)


_DEFAULT: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Notes the first SIGINT (Ctrl-C) or SIGTERM (a preemption), instead of letting it interrupt a step.

    An exception within a step would leave state, data and metrics of different steps. A second signal acts immediately.
    With several processes only a second SIGINT does: JAX handles SIGTERM itself.

        with stopping() as stop:
            for number in range(first, last):
                ...
                if stop():
                    save()
                    raise stop.reason

    With several processes, a signal to any of them stops all. A signal that this process was told to ignore (`nohup`, a
    job in the background) stays ignored, and a signal with a handler of somebody else keeps it.
    """
    stop = Stop()
    # With several processes JAX handles SIGTERM itself. A handler here would replace JAX's.
    signals = [signal.SIGINT] if jax.distributed.is_initialized() else [signal.SIGINT, signal.SIGTERM]
    # Only the main thread may set signal handlers.
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number in signals if main and signal.getsignal(number) is _DEFAULT[number]]
    for number in ours:
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number in ours:
            signal.signal(number, _DEFAULT[number])


def _store() -> Any:
    return distributed.global_state.client


_questions = 0


def _next_question() -> int:
    """The number of this question: consecutive over the life of the process.

    JAX stops at the number after the largest one that was asked about, so the numbers must not have gaps. Numbers of
    steps do have gaps where one call makes several steps.
    """
    global _questions
    _questions += 1
    return _questions
