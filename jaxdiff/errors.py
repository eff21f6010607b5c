"""How a program ends with an error: one line on standard error, and an exit status.

The environment variable JAXDIFF_TRACEBACK=1 prints the traceback before the line.
"""

import contextlib
import os
import sys
import traceback
from typing import NoReturn

from jaxdiff.checks import shortened

TRACEBACK_VARIABLE = "JAXDIFF_TRACEBACK"
_LONGEST = 2000  # characters of a line; the names that a setting allows take hundreds


def report_error(message: str, kind: str = "error") -> None:
    """Prints `error: message` as one line on standard error. A closed standard error is not an error itself.

    Args:
      message: the text.
      kind: the word before the text: `error`, or `warning`.
    """
    if sys.stderr is None:  # Python's sign of a closed stream, for which `print` would write to standard output
        return
    line = shortened(" ".join(message.split()), _LONGEST)
    with contextlib.suppress(OSError, ValueError):
        print(f"{kind}: {line}", file=sys.stderr, flush=True)


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
