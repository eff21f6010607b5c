"""A lost process ends all the others, with a line that says so: the collective that waits for it would never end.

Every process counts up a number of its own in the key-value store that JAX's coordination service keeps in process 0,
and reads those of the others. JAX has heartbeats of its own, but they end a process in an abort and a page of stack,
and only Gloo's sockets notice that a peer has died, not that it has lost its network.
"""

import ctypes
import os
import signal
import socket
import threading
import time
from typing import Any, NoReturn

from jaxdiff.distributed import reporting

LOST = os.EX_TEMPFAIL
"""Exit status (75) of a process that lost another: starting all of them again goes on from the last checkpoint."""

_BEAT = 1.0  # seconds
_ALIVE, _LEFT, _VERDICT = "jaxdiff/alive/", "jaxdiff/left/", "jaxdiff/verdict"
_LINGER = 4 * _BEAT


class Heartbeat:
    """Two threads that make this process known as alive, and end it when another is not.

    Args:
        client: JAX's `DistributedRuntimeClient`, connected.
        process: the number of this one, of `processes`.
        coordinator: HOST:PORT of JAX's coordination service, in process 0.
        timeout: seconds without a sign of life after which a process is lost.
    """

    def __init__(self, client: Any, process: int, processes: int, coordinator: str, timeout: float) -> None:
        self._client, self._process, self._processes = client, process, processes
        self._coordinator, self._timeout = coordinator, timeout
        self._ending, self._over = threading.Lock(), threading.Event()
        self._values: dict[str, str] = {}
        self._read = time.monotonic()
        # A call to a process 0 that has stopped answering does not return: another thread has to notice.
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._look)]
        if process:
            self._explain_aborts()
        for thread in self._threads:
            thread.start()

    def settle(self) -> None:
        """Gives the watch the time to find out whether another process is lost; returns only if none is."""
        time.sleep(self._timeout + 3 * _BEAT)
        with self._ending:
            return

    def leave(self) -> None:
        """Waits for all others to come here too, and ends the watch."""
        self._client.key_value_set(f"{_LEFT}{self._process}", "")
        # The watch goes on meanwhile, and is what ends the wait for a process that is lost on its way here.
        self._client.wait_at_barrier("jaxdiff/leave", 24 * 60 * 60 * 1000)
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._process:
            _c_signal(signal.SIGABRT, None)

    def abandon(self, status: int) -> NoReturn:
        """Ends this process, which has said why, and all the others, at once and without their leave."""
        self._end(f"process {self._process} of {self._processes} failed: its own output says why", status, say=False)

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(_BEAT):
            count += 1
            try:
                self._client.key_value_set(f"{_ALIVE}{self._process}", str(count), allow_overwrite=True)
                self._values = dict(self._client.key_value_dir_get("jaxdiff/"))
            except Exception:
                self._end(self._lost(0))
            self._read = time.monotonic()

    def _look(self) -> None:
        beats = {peer: ("", time.monotonic()) for peer in range(self._processes) if peer != self._process}
        while not self._over.wait(_BEAT):
            values, now = self._values, time.monotonic()
            if _VERDICT in values:
                told, _, text = values[_VERDICT].partition(" ")
                self._end(text, int(told))
            if now - self._read > self._timeout:
                self._end(self._lost(0))
            for peer, (beat, since) in beats.items():
                latest = values.get(f"{_ALIVE}{peer}", "")
                if latest != beat:
                    beats[peer] = (latest, now)
                elif now - since > self._timeout and f"{_LEFT}{peer}" not in values:
                    self._end(self._lost(peer))

    def _lost(self, peer: int) -> str:
        role = ", which coordinates the others," if peer == 0 else ""
        return f"process {peer} of {self._processes}{role} is lost: it has died, or the network to it has"

    def _end(self, text: str, status: int = LOST, say: bool = True) -> NoReturn:
        self._ending.acquire()  # and never released: whoever comes second waits for the end
        # Two seconds at most: process 0 may not answer any more.
        telling = threading.Thread(target=self._tell, args=(f"{status} {text}",), daemon=True)
        telling.start()
        telling.join(2 * _BEAT)
        if self._process == 0:
            # The store ends with this process, and the others read it once a beat.
            time.sleep(_LINGER)
        if say:
            # Last: where process 0 has died, a thread of JAX's may have been writing its stack until now.
            reporting.report_error(text)
        os._exit(status)

    def _tell(self, verdict: str) -> None:
        try:
            self._client.key_value_set(_VERDICT, verdict)
        except Exception:
            return  # another was first, or there is no one left to tell

    def _explain_aborts(self) -> None:
        """JAX aborts at once where process 0 has died; this says, after JAX's stack, that it is what happened."""

        def explain(number: int) -> None:
            host, _, port = self._coordinator.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2 * _BEAT).close()
            except OSError:
                self._end(self._lost(0))

        _c_signal(signal.SIGABRT, explain)


_handlers: list[Any] = []


def _c_signal(number: int, handler: Any) -> None:
    """The C library's `signal`: a handler of Python's would wait for the main thread, and an abort does not."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    _handlers.append(kind(handler) if handler else kind(0))  # C does not keep it
    ctypes.CDLL(None).signal(number, _handlers[-1])
