"""The standard streams of a command: what cannot be written is left out, and never sets the exit status."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Forgiving:
    """A text stream that leaves out what the stream below cannot write: on a full disk, into a closed pipe."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text. Characters that the encoding lacks are escaped."""
        with contextlib.suppress(OSError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode("ascii", "backslashreplace").decode())
        return len(text)

    def flush(self) -> None:
        """Flushes the stream below."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def forgiving_streams() -> Iterator[None]:
    """Within the block, standard output and standard error may be closed or full, or pipes that nobody reads."""
    _open_closed()
    out, err = sys.stdout, sys.stderr
    with contextlib.redirect_stdout(_Forgiving(out)), contextlib.redirect_stderr(_Forgiving(err)):
        try:
            yield
        finally:
            for stream in (out, err):
                try:
                    stream.flush()
                except OSError:
                    # Python flushes its streams once more when it ends, and would end with the status 120.
                    _to_null(stream.fileno())


def _open_closed() -> None:
    """Opens closed streams on the null device. Otherwise the next file that is opened would become such a stream."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _to_null(number)
        if getattr(sys, name) is None:  # as Python leaves a closed stream
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 (it lives as long as the process)


def _to_null(number: int) -> None:
    """Makes a file descriptor one of the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    else:
        os.set_inheritable(null, True)
