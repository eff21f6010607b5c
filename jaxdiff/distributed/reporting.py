"""Errors of a program: one line on standard error, and an exit status.

Exit status: 2 for an error that the user can mend, 130 for Ctrl-C, 143 for SIGTERM. The environment variable
JAXDIFF_TRACEBACK=1 prints the traceback before the line.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from jaxdiff.distributed.stopping import Stopped

TRACEBACK_VARIABLE = "JAXDIFF_TRACEBACK"


@contextlib.contextmanager
def reporting_errors() -> Iterator[None]:
    """Turns an error of the block that the user can mend into one line on standard error and an exit status.

    - ValueError, TypeError, OSError, ImportError (a missing optional package) and MemoryError: exit status 2.
    - KeyboardInterrupt: exit status 130.
    - `Stopped`: exit status 128 plus the number of the signal.

    Any other error is a defect. It is not changed, and Python prints its traceback.

    Raises:
      SystemExit: with the status above.
    """
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    except Stopped as stop:
        fail(describe(stop), status=128 + stop.signal)
    except OSError as error:
        # str(error) begins with "[Errno 13]", which tells most readers nothing.
        where = "" if error.filename is None else f": {os.fspath(error.filename)!r}"
        fail(f"{error.strerror}{where}" if error.strerror else describe(error))
    except (ValueError, TypeError, ImportError, MemoryError) as error:
        fail(describe(error))


def report_error(message: str) -> None:
    """Prints `error: message` as one line on standard error. A closed standard error is not an error itself."""
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def fail(message: str, status: int = 2) -> NoReturn:
    """Reports an error and exits with `status`."""
    if os.environ.get(TRACEBACK_VARIABLE) == "1" and sys.exc_info()[0] is not None:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    report_error(message)
    raise SystemExit(status)


def describe(error: BaseException) -> str:
    """The text of an error; the name of its type if it has no text."""
    return str(error) or type(error).__name__
