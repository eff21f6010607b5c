"""Runs a command in a fork of this process, and notes everything that it touches outside of its own directory.

A fork begins with every module imported, so that a command takes as long as its work. JAX must not have opened its
devices before the fork.
"""

import contextlib
import dataclasses
import faulthandler
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MEMORY, FILE_SIZE = 8 << 30, 1 << 30  # bytes that a command may take

# What audit events say is touched: the positions of their paths. https://docs.python.org/3/library/audit_events.html
_PATHS = {
    "open": (0,),
    "os.chmod": (0,),
    "os.link": (0, 1),
    "os.listdir": (0,),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.scandir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}
_READING = {"os.listdir", "os.scandir"}
_OF_NAMES = {"os.remove", "os.rename", "os.symlink"}  # change a link itself, and not the file that it leads to
_PROGRAMS = ("os.exec", "os.posix_spawn", "os.startfile", "os.system", "pty.spawn", "subprocess.Popen")
_SYSTEM = ("/dev/null", "/dev/urandom", "/etc/localtime", "/etc/mime.types", "/lib", "/proc", "/sys", "/usr")

_LIBRARIES = {str(Path(place).resolve()) for place in (*sys.path, sys.prefix, sys.base_prefix) if place}


@dataclasses.dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
      status: its exit status; minus the number of the signal that ended it.
      out: its standard output.
      err: its standard error.
      touched: what it touched outside of its own directory, a line each.
      hung: whether it was killed because its time was over.
      seconds: how long it took.
    """

    status: int
    out: str
    err: str
    touched: tuple[str, ...]
    hung: bool
    seconds: float


def run(
    command: Callable[[], None],
    own: Path,
    readable: tuple[Path, ...] = (),
    writable: tuple[Path, ...] = (),
    *,
    timeout: float,
    training: Path | None = None,
) -> End:
    """Calls a function in a fork, in the directory `own`.

    Args:
      command: the function. Its SystemExit gives the status.
      own: the directory, in which the function may read and write.
      readable: further paths that it may read.
      writable: further paths that it may read and write.
      timeout: the seconds of processor time after which it is killed. By the clock it may take three times as long,
        since other programs share the machine.
      training: a file that shows that a training has begun, which is then ended by SIGTERM.
    """
    capture = own.with_name(f"{own.name}.ends")
    capture.mkdir()
    files = {name: capture / name for name in ("out", "err", "touched")}
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _in_child(command, own, readable, (*writable, own), files)
    status, hung = _wait(child, began, timeout, training)
    out, err, touched = (path.read_text(errors="replace") if path.exists() else "" for path in files.values())
    return End(status, out, err, tuple(dict.fromkeys(touched.splitlines())), hung, time.monotonic() - began)


def _wait(child: int, began: float, timeout: float, training: Path | None) -> tuple[int, bool]:
    """The status of the child, and whether it had to be killed."""
    told = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), False
        if not told and training is not None and training.is_file() and training.stat().st_size:
            os.kill(child, signal.SIGTERM)
            told = True
        if time.monotonic() - began > timeout and (_used(child) > timeout or time.monotonic() - began > 3 * timeout):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGABRT)  # faulthandler says where it was
                time.sleep(0.2)
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL, True
        time.sleep(0.005)


def _used(process: int) -> float:
    """The seconds of processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _in_child(
    command: Callable[[], None],
    own: Path,
    readable: tuple[Path, ...],
    writable: tuple[Path, ...],
    files: dict[str, Path],
) -> None:
    status: Any = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(files[name], os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        faulthandler.enable()
        for kind, limit in (
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_FSIZE, FILE_SIZE),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (limit, limit))
        own.mkdir(exist_ok=True)
        os.chdir(own)
        watch(os.open(files["touched"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), readable, writable)
        command()
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        # The exit handlers belong to the parent.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def watch(descriptor: int, readable: tuple[Path, ...], writable: tuple[Path, ...]) -> None:
    """From now on, writes a line to a descriptor for each path, program and address outside of what is allowed."""
    may_write = [str(path.resolve()) for path in writable]
    may_read = [*may_write, *(str(path.resolve()) for path in readable), *_LIBRARIES, *_SYSTEM]

    def note(event: str, args: tuple[Any, ...]) -> None:
        for line in _outside(event, args, may_read, may_write):
            os.write(descriptor, f"{' '.join(line.split())[:300]}\n".encode(errors="replace"))

    sys.addaudithook(note)


def _outside(event: str, args: tuple[Any, ...], may_read: list[str], may_write: list[str]) -> Iterator[str]:
    if event.startswith(_PROGRAMS):
        program = args[0] if args else ""
        # `runs/provenance.py` asks git for the commit of jaxdiff.
        if os.path.basename(os.fsdecode(program)) != "git":
            yield f"{event} {args}"
    elif event == "socket.connect":
        address = args[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            yield f"{event} {address}"
    elif event in _PATHS:
        for place in _PATHS[event]:
            path = args[place]
            if not isinstance(path, str | bytes | os.PathLike):  # a descriptor, of a path that was noted
                continue
            reading = event in _READING or (event == "open" and not _writes(args))
            absolute = _absolute(os.fsdecode(path), event, args)
            parent, name = os.path.split(absolute)
            itself = event in _OF_NAMES and name not in ("", ".", "..")
            real = os.path.join(os.path.realpath(parent), name) if itself else os.path.realpath(absolute)
            roots = may_read if reading else may_write
            if real != os.devnull and not any(real == root or real.startswith(f"{root}/") for root in roots):
                yield f"{event} {'' if reading else 'to change '}{real}"


def _writes(args: tuple[Any, ...]) -> bool:
    mode, flags = args[1], args[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _absolute(path: str, event: str, args: tuple[Any, ...]) -> str:
    """The path from the root. The last argument of some events is the descriptor of the directory it is relative to."""
    directory = args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree") else -1
    if os.path.isabs(path) or not isinstance(directory, int) or directory < 0:
        return path
    return os.path.join(os.readlink(f"/proc/self/fd/{directory}"), path)
