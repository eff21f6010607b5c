"""Where checkpoints can be: paths that Orbax understands."""

import os
from pathlib import Path

from jaxdiff.checks import require


def directory_for_checkpoints(path: str | os.PathLike[str], name: str = "directory") -> Path:
    """The absolute path of a directory, if checkpoints can be in it.

    Orbax takes a path for a pattern of file names, finds nothing there, and saves a checkpoint without arrays. It takes
    `gs:` and the like for the name of a server, and other bytes than UTF-8 for an error.

    Args:
      path: the directory, which need not exist.
      name: the name of the directory in the error.

    Raises:
      ValueError: Orbax cannot use the path; or the path is relative, and the working directory has been deleted.
    """
    try:
        absolute = Path(path).absolute()
    except FileNotFoundError as error:
        raise ValueError(f"{name} {str(path)!r}: the working directory has been deleted") from error
    text = str(absolute)
    utf_8 = text.encode(errors="ignore").decode() == text
    good = utf_8 and not set(text) & set("\0[*?\\") and not any(part.endswith(":") for part in absolute.parts)
    allowed = "local paths in UTF-8 without [ * ? \\ and without names that end with a colon"
    require(good, name, text, f"{allowed}; a link may lead to any directory")
    return absolute
