"""Files that grow by whole records."""

import contextlib
import errno
import os

from jaxdiff.files import open_own


class RecordFile:
    """A file that grows by whole records: a record that does not fit on the disk leaves nothing in the file.

    `write` collects the bytes of a record, and `flush` appends the record. An existing file is continued.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Without a buffer, no write is left to fail later, and a kill loses no record.
        self._file = open_own(path, "ab")
        self._record = b""

    def write(self, data: bytes) -> None:
        """Adds bytes to the record that the next `flush` appends."""
        self._record += data

    def flush(self) -> None:
        """Appends the record. An OSError drops the record and leaves the file as before."""
        record, self._record = self._record, b""
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(record) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
