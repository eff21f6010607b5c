"""Heartbeats: if one process is lost, all others end with a line that says so.

Without them a collective would wait for the lost process forever. Every process increments a counter of its own in the
key-value store of JAX's coordination service, which runs in process 0, and reads the counters of the others.

JAX has heartbeats of its own, but they end a process with an abort and a stack trace. Gloo's sockets notice that a peer
has died, but not that its network has. One case is left to JAX: when process 0 dies, the connection to its coordination
service breaks, and JAX aborts every other process within a second, with a stack trace and SIGABRT. JAX offers no
supported way to prevent this abort. If the heartbeat notices the loss first, it prints its line and exits with `LOST`.
"""

import os
import threading
import time
from typing import Any, NoReturn

from jaxdiff.errors import report_error

LOST = os.EX_TEMPFAIL
"""Exit status (75) of a process that lost another. Starting all processes again resumes from the last checkpoint."""

_BEAT = 1.0  # seconds between two heartbeats
_ALIVE, _LEFT, _END = "jaxdiff/alive/", "jaxdiff/left/", "jaxdiff/end"  # keys in the store
_LINGER = 4 * _BEAT


class Heartbeat:
    """Two threads: they show that this process is alive, and end it when another one is lost.

    Args:
      client: JAX's `DistributedRuntimeClient`, connected.
      process: the number of this process.
      processes: the number of all processes.
      timeout: a process without a heartbeat for so many seconds is lost.
    """

    def __init__(self, client: Any, process: int, processes: int, timeout: float) -> None:
        self._client, self._process, self._processes, self._timeout = client, process, processes, timeout
        self._ending, self._over = threading.Lock(), threading.Event()
        self._values: dict[str, str] = {}
        self._read = time.monotonic()
        # If process 0 stops answering, a call of the store does not return. The second thread notices this.
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()

    def end_if_lost(self) -> None:
        """Waits long enough to detect any lost process. Ends this process if there is one, and returns otherwise."""
        time.sleep(self._timeout + 3 * _BEAT)
        with self._ending:
            return

    def leave(self) -> None:
        """Waits until all processes have called this method, and ends the heartbeats."""
        self._client.key_value_set(f"{_LEFT}{self._process}", "")
        # The heartbeats continue meanwhile. They end the wait if a process is lost on its way here.
        self._client.wait_at_barrier("jaxdiff/leave", 24 * 60 * 60 * 1000)
        self._over.set()
        for thread in self._threads:
            thread.join()

    def abort(self, status: int) -> NoReturn:
        """Aborts this process and all others immediately. The reason must have been printed already."""
        text = f"process {self._process} of {self._processes} failed: its own output says why"
        self._end(text, status, report=False)

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(_BEAT):
            count += 1
            try:
                self._client.key_value_set(f"{_ALIVE}{self._process}", str(count), allow_overwrite=True)
                self._values = dict(self._client.key_value_dir_get("jaxdiff/"))
            except Exception:
                self._lose(0)
            self._read = time.monotonic()

    def _watch(self) -> None:
        beats = {peer: ("", time.monotonic()) for peer in range(self._processes) if peer != self._process}
        while not self._over.wait(_BEAT):
            values, now = self._values, time.monotonic()
            if _END in values:
                status, _, text = values[_END].partition(" ")
                self._end(text, int(status))
            if now - self._read > self._timeout:
                self._lose(0)
            for peer, (beat, since) in beats.items():
                latest = values.get(f"{_ALIVE}{peer}", "")
                if latest != beat:
                    beats[peer] = (latest, now)
                elif now - since > self._timeout and f"{_LEFT}{peer}" not in values:
                    self._lose(peer)

    def _lose(self, peer: int) -> NoReturn:
        role = ", which coordinates the others," if peer == 0 else ""
        # Without process 0 there is no store to tell the others through. They notice its loss themselves.
        self._end(f"process {peer} of {self._processes}{role} is lost: it has died, or its network has", tell=peer != 0)

    def _end(self, text: str, status: int = LOST, report: bool = True, tell: bool = True) -> NoReturn:
        self._ending.acquire()  # never released: a second thread that comes here waits for the end
        if tell:
            # At most two beats: process 0 may stop answering.
            telling = threading.Thread(target=self._tell, args=(f"{status} {text}",), daemon=True)
            telling.start()
            telling.join(2 * _BEAT)
        if self._process == 0:
            # The store ends with this process, and the others read it once in a beat.
            time.sleep(_LINGER)
        if report:
            report_error(text)
        os._exit(status)

    def _tell(self, end: str) -> None:
        try:
            self._client.key_value_set(_END, end)
        except Exception:
            return  # another process was first, or nobody can be told
