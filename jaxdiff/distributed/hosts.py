"""Several processes as one job: they join as their launcher says, and end together.

    with hosts.joined():
        train(config, run_dir)

The exit statuses of a joined process are those of `reporting.reporting_errors`, and 75 (`heartbeat.LOST`) if another
process is lost. If process 0 dies, JAX may abort the others instead: see `heartbeat`.
"""

import contextlib
import importlib.util
import os
import re
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax._src import distributed  # the client of the coordination service has no public name

from jaxdiff import checks
from jaxdiff.checks import message
from jaxdiff.distributed import reporting
from jaxdiff.distributed.heartbeat import Heartbeat
from jaxdiff.distributed.stopping import Stopped
from jaxdiff.errors import report_error


def first() -> bool:
    """Whether this is process 0: the one that prints, and that writes logs and samples."""
    return jax.process_index() == 0


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    join_timeout: int = 50,
    heartbeat_timeout: float = 30.0,
) -> Iterator[None]:
    """Joins this process to the others of its job, and ends it together with them.

    Without arguments, the launcher's environment is used: Slurm, Open MPI, a TPU pod (Compute Engine or Kubernetes) or
    an indexed Kubernetes job. Without a launcher, or with one that started a single process, there is nothing to join,
    and no network is used. Enter the block before anything that asks JAX for devices.

    With several processes, errors in the block are reported as by `reporting.reporting_errors`. An error in one process
    ends all processes immediately. `Stopped` and the end of the block wait for all processes.

    Args:
      coordinator: HOST:PORT of process 0, with a free port.
      processes: the number of processes. 1 without other arguments: nothing is joined, whatever the launcher says.
      process: the number of this process, from 0.
      join_timeout: seconds to wait for the other processes. Then this process ends with one line and status 2.
      heartbeat_timeout: another process without a heartbeat for so many seconds is lost.

    Raises:
      ValueError: an argument is missing or out of range, or JAX needs a package for this launcher that is not
        installed.
      ConnectionError: the other processes were not found, or the port of `coordinator` is taken.
    """
    _check(coordinator, processes, process)
    method = None if coordinator is None else "deactivate"
    if coordinator is None and processes is None:
        settings: Any = jax.config
        launcher = _launcher(os.environ, settings.jax_platforms or "")
        method = "mpi4py" if launcher == "Open MPI 5" else None
    else:
        launcher = "flags" if processes != 1 else None
    if launcher is None:
        yield
        return
    _initialise(coordinator, processes, process, method, launcher, join_timeout, heartbeat_timeout)
    state = distributed.global_state
    if state.num_processes == 1:
        yield
        return
    heartbeat = Heartbeat(state.client, state.process_id, state.num_processes, heartbeat_timeout)
    failed, status = False, None
    try:
        with reporting.reporting_errors():
            try:
                yield
            except Stopped:
                raise
            except BaseException as error:
                failed = True
                if _may_be_a_lost_peer(error):
                    # The heartbeat soon knows, and ends this process with a better reason.
                    heartbeat.end_if_lost()
                raise
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        status = 1
        with contextlib.suppress(OSError):
            traceback.print_exc()
    if failed and status not in (0, None):
        with contextlib.suppress(OSError, AttributeError):  # Python has no object for a closed stream
            sys.stdout.flush()
        heartbeat.abort(status if isinstance(status, int) else 1)
    heartbeat.leave()
    jax.distributed.shutdown()
    if status is not None:
        raise SystemExit(status)


def _may_be_a_lost_peer(error: BaseException) -> bool:
    # Gloo's errors are RuntimeErrors or ValueErrors, depending on the version of JAX.
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    if processes is not None:
        checks.integer("processes", processes)
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < 3 and not (processes == 1 and coordinator is None and process is None):
        present = ", ".join(f"{name} = {value!r}" for name, value in given.items() if value is not None)
        raise ValueError(f"{present}, but no {' and no '.join(missing)}; allowed are all three or none of them")
    if process is not None and processes is not None:
        checks.integer("process", process, 0, processes - 1)
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        bare = re.fullmatch(r"\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+", host)
        if not bare or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise ValueError(message("coordinator", coordinator, "HOST:PORT with a port from 1 to 65535"))


def _launcher(environment: Mapping[str, str], platforms: str) -> str | None:
    """The launcher of this process and others, in the order in which JAX asks; None if this process is alone."""

    def many(name: str) -> bool:
        return environment.get(name, "").isdecimal() and int(environment[name]) > 1

    if many("OMPI_COMM_WORLD_SIZE"):
        return "Open MPI" if "OMPI_MCA_orte_hnp_uri" in environment else "Open MPI 5"
    if many("SLURM_NTASKS") and {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= {
        *environment
    }:
        return "Slurm"
    if "tpu" in platforms.split(","):
        workers = [environment.get(f"TPU_{name}") for name in ("PROCESS_ADDRESSES", "WORKER_HOSTNAMES")]
        hosts = next((names for names in workers if names is not None), None)
        if many("MEGASCALE_NUM_SLICES") or (hosts and "," in hosts) or "TPU_PROCESS_ADDRESSES_PATH" in environment:
            return "the TPU pod"
        # On Compute Engine only the metadata server knows. JAX sets this variable on machines without a TPU.
        return "the TPU VM" if hosts is None and "TPU_SKIP_MDS_QUERY" not in environment else None
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    return None


def _initialise(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    method: str | None,
    launcher: str,
    join_timeout: int,
    heartbeat_timeout: float,
) -> None:
    advice = "give coordinator, processes and process, or processes = 1 to stay alone"
    for package, needed in (("mpi4py", launcher == "Open MPI 5"), ("kubernetes", launcher == "Kubernetes")):
        if needed and importlib.util.find_spec(package) is None:
            raise ValueError(f"{launcher}: JAX needs the package {package} to find the other processes. Or {advice}")
    if coordinator is not None and process == 0:
        _check_port(coordinator)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's own timeout would abort with a stack trace.
    alarm = threading.Timer(join_timeout, _give_up, [join_timeout, process])
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method=method,
            initialization_timeout=join_timeout + 20,
            # Longer than our timeout: JAX aborts only if both of our threads are stuck, and still within a minute.
            heartbeat_timeout_seconds=int(heartbeat_timeout * 1.5) + 5,
        )
    except Exception as error:
        address = distributed.global_state.coordinator_address or "process 0"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = "" if launcher == "flags" else f" (as {launcher} says; {advice})"
        raise ConnectionError(f"cannot join the other processes at {address}{where}: {reason}") from error
    finally:
        alarm.cancel()


def _check_port(coordinator: str) -> None:
    """Raises an error if the port is taken. JAX 0.10 crashes in this case."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket() as listener:
        # As JAX does: a port with old connections that linger is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise ConnectionError(
                f"coordinator = {coordinator!r}: process 0 cannot listen on port {port}: {error.strerror}"
            ) from error


def _give_up(join_timeout: float, process: int | None) -> None:
    state = distributed.global_state
    place = state.coordinator_address or "process 0"
    which = "" if process is None else f"process {process}: "
    report_error(
        f"{which}not all processes joined at {place} within {join_timeout} s; "
        "were all started, with the same coordinator, and can they reach it?"
    )
    os._exit(2)
