"""Stopping between two steps when a signal asks for it, in all processes after the same one."""

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
_SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated by SIGTERM: preempted, or at the end of its time"}


class Stopped(Exception):
    """Training was told to stop, and has saved.

    Attributes:
        signal: what told it, here or in another process.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(_SAID[number])
        self.signal = number


class Stop:
    """Whether to stop: see `stopping`."""

    def __init__(self) -> None:
        self._noted: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether to save and raise `reason` now.

        With several processes each has to ask equally often, after the same steps; all are told so by the same
        question, the next or the one after it.
        """
        if not jax.distributed.is_initialized():
            return self._noted is not None
        return multihost_utils.reached_preemption_sync_point(_next_question())

    @property
    def reason(self) -> Stopped:
        """What to raise once all is saved."""
        if not jax.distributed.is_initialized():
            return Stopped(self._noted or signal.SIGINT)
        values = dict(_store().key_value_dir_get("jaxdiff/"))
        return Stopped(signal.SIGINT if _KEY in values else signal.SIGTERM)

    def note(self, number: int, _: Any) -> None:
        """A handler of signals."""
        self._noted = signal.Signals(number)
        signal.signal(number, _DEFAULT[self._noted])
        if jax.distributed.is_initialized():
            # JAX has the processes agree on a step, and SIGTERM is what it takes notice of.
            _store().key_value_set(_KEY, self._noted.name, allow_overwrite=True)
            os.kill(os.getpid(), signal.SIGTERM)


_DEFAULT: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Within it a first SIGINT (Ctrl-C) or SIGTERM (a preemption) is only noted: raised amid a step, it would leave
    state, data and metrics of different steps. A second one acts at once (of several processes, a second SIGINT only:
    JAX keeps SIGTERM for itself).

        with stopping() as stop:
            for number in range(first, last):
                ...
                if stop():
                    save()
                    raise stop.reason

    A signal to any one of several processes stops all of them. Signals that the process was told to ignore (`nohup`, a
    job in the background) stay ignored, and those that have a handler of another's keep it.
    """
    stop = Stop()
    # Of several processes JAX itself listens to SIGTERM; a handler here would take it away from there.
    signals = [signal.SIGINT] if jax.distributed.is_initialized() else [signal.SIGINT, signal.SIGTERM]
    # Python hands signals to its main thread only.
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
    """JAX stops at the number after the largest that was asked about: numbers have to follow each other, even where
    steps come by the dozen, and in the whole life of the process, as its answer does.
    """
    global _questions
    _questions += 1
    return _questions
