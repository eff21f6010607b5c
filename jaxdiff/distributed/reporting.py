"""Errors of a command, with those of several processes: one line on standard error, and an exit status.

Exit status: 2 for an error that the user can mend, 130 for Ctrl-C, 143 for SIGTERM.
"""

import contextlib
import os
from collections.abc import Iterator

from jaxdiff.distributed.stopping import Stopped
from jaxdiff.errors import describe, fail


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
