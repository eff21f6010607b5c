"""Several processes, one job: joined as whatever launched them says, and ended together.

    with hosts.joined():
        train(config, run_dir)

Exit statuses of a joined process: those of `command_line`, and 75 (`peers.LOST`) where another process is lost.
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

from jaxdiff.distributed import reporting
from jaxdiff.distributed.heartbeat import Heartbeat
from jaxdiff.distributed.stopping import Stopped


def first() -> bool:
    """Whether this is process 0: the one that speaks and writes."""
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
    """Joins this process to the others of its job, and ends it with them.

    With no arguments the launcher is asked: Slurm, Open MPI, a TPU pod (Compute Engine or Kubernetes) or an indexed
    Kubernetes job. Where there is none, or it has launched one process only, there is nothing to join and no network
    is touched. Has to come before anything that asks JAX for devices.

    Of several processes, errors within it are reported as by `reporting.reporting_errors`. Any of them ends all
    processes, at once; `Stopped` and the end of the block are waited for by all.

    Args:
        coordinator: HOST:PORT of process 0, a free port.
        processes: how many there are; 1 alone means that there is nothing to join, whatever the launcher says.
        process: which one this is, from 0.
        join_timeout: seconds to wait for the others to come; then this process ends with one line and status 2.
        heartbeat_timeout: seconds without a sign of life after which another process counts as lost.

    Raises:
        ValueError: arguments of which a part is missing or out of range, or a launcher for which JAX needs a package
            that is not installed.
        ConnectionError: the others were not found, or the port of `coordinator` is taken.
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
    watch = Heartbeat(
        state.client, state.process_id, state.num_processes, str(state.coordinator_address), heartbeat_timeout
    )
    together, status = True, None
    try:
        with reporting.reporting_errors():
            try:
                yield
            except Stopped:
                raise
            except BaseException as error:
                together = False
                if _may_be_a_lost_peer(error):
                    # The watch knows in a moment, and ends this process with a better reason.
                    watch.settle()
                raise
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        status = 1
        with contextlib.suppress(OSError):
            traceback.print_exc()
    if not together and status not in (0, None):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        watch.abandon(status if isinstance(status, int) else 1)
    watch.leave()
    jax.distributed.shutdown()
    if status is not None:
        raise SystemExit(status)


def _may_be_a_lost_peer(error: BaseException) -> bool:
    # Gloo's errors are RuntimeErrors or ValueErrors, as the version of JAX has it.
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    if processes is not None and processes < 1:
        raise ValueError(f"processes = {processes}; allowed are positive integers")
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < 3 and not (processes == 1 and coordinator is None and process is None):
        there = ", ".join(f"{name} = {value!r}" for name, value in given.items() if value is not None)
        raise ValueError(f"{there}, but no {' and no '.join(missing)}: they are given together, or none of them")
    if process is not None and processes is not None and not 0 <= process < processes:
        raise ValueError(f"process = {process}; allowed are 0 to {processes - 1}, since processes = {processes}")
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        bare = re.fullmatch(r"\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+", host)
        if not bare or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise ValueError(f"coordinator = {coordinator!r}; allowed is HOST:PORT with a port from 1 to 65535")


def _launcher(environment: Mapping[str, str], platforms: str) -> str | None:
    """What launched this process together with others, in the order in which JAX asks; None if it is alone."""

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
        # On Compute Engine only the metadata server knows; JAX sets this variable where there is no TPU.
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
            raise ValueError(f"{launcher}: JAX needs the package {package} to find the other processes; or {advice}")
    if coordinator is not None and process == 0:
        _check_port(coordinator)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX would abort with a page of stack when its own time is up.
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
            # Should both threads of the watch be stuck, JAX's abort comes after them and still within the minute.
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
    """JAX 0.10 crashes where its port is taken."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket() as listener:
        # As JAX does: a port of which old connections linger is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            reason = f"process 0 cannot listen on port {port}: {error.strerror}"
            raise ConnectionError(f"coordinator = {coordinator!r}: {reason}") from error


def _give_up(join_timeout: float, process: int | None) -> None:
    state = distributed.global_state
    place = state.coordinator_address or "process 0"
    which = "" if process is None else f"process {process}: "
    reporting.report_error(
        f"{which}not all processes have come to {place} within {join_timeout} s; "
        "have all been started, with the same coordinator, and can they reach it?"
    )
    os._exit(2)
