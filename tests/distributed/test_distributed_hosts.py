"""Several processes join by flags or by their launcher, stop after the same step, and never wait forever."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest
from devices import forced, free_port

from jaxdiff.distributed import heartbeat, hosts, reporting
from jaxdiff.distributed.stopping import Stopped, stopping

LAUNCHERS = ("JAX_", "SLURM_", "OMPI_", "TPU_", "MEGASCALE_", "KUBERNETES_", "JOB_COMPLETION")

# Sums over all devices in every step, as training does. At step 3 `trouble` happens to process `victim`.
WORKER = """
import os, signal, sys, time
from jaxdiff.distributed import hosts, reporting
from jaxdiff.distributed.stopping import stopping

def work(trouble, victim, every):
    import jax, jax.numpy as jnp, numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import NamedSharding, PartitionSpec
    print("joined", jax.process_index(), jax.process_count(), jax.device_count(), hosts.first(), flush=True)
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.make_array_from_process_local_data(sharding, np.ones(jax.local_device_count(), np.float32))
    step = jax.jit(lambda x: x + jnp.sum(x), out_shardings=sharding)
    here = jax.process_index() == victim
    with stopping() as stop:
        for number in range(every, 400 * every, every):
            x = jax.block_until_ready(step(x))
            if number == 3 * every:
                print("running", flush=True)
                if trouble == "joined":
                    return
                if trouble == "pmap":
                    from jaxdiff.distributed.mapped import Mapped
                    strategy = Mapped()
                    print(strategy.place_frozen({}), strategy.place_frozen({"w": np.ones(3)})["w"].shape)
                    return
                if trouble == "raise" and here:
                    raise ValueError("the disk of this one is full")
                if trouble == "defect" and here:
                    raise AssertionError("a defect")
                if trouble == "barrier":
                    if jax.process_index() < 2:
                        time.sleep(600)
                    multihost_utils.sync_global_devices("never")
            if stop():
                print("stopped", number, flush=True)
                raise stop.reason
            time.sleep(0.05)

def main():
    flags = dict(flag.split("=") for flag in sys.argv[4:])
    flags = {name: value if name == "coordinator" else float(value) if name == "heartbeat_timeout" else int(value)
             for name, value in flags.items()}
    with hosts.joined(**flags):
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

with reporting.reporting_errors():
    main()
"""


@pytest.fixture(scope="module", autouse=True)
def interruptible():
    """A shell that starts the tests in the background makes them and their children ignore Ctrl-C. This undoes it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Job:
    """Processes on this machine, and what they print."""

    def __init__(self, count, trouble="joined", victim=-1, every=1, *, flags=(), environments=None, devices=1):
        port = free_port()
        clean = {name: value for name, value in forced(devices).items() if not name.startswith(LAUNCHERS)}
        clean["JAX_PLATFORMS"] = "cpu"
        self.processes = []
        for index in range(count):
            flagged = [f"coordinator=127.0.0.1:{port}", f"processes={count}", f"process={index}"]
            command = [sys.executable, "-c", WORKER, trouble, str(victim), str(every)]
            command += [*([] if environments else flagged), *flags]
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=clean | (environments(index, port) if environments else {}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait_until_running(self):
        for process in self.processes:
            for line in process.stdout:
                if "running" in line:
                    break
            else:
                pytest.fail(process.stderr.read())

    def result(self, index, timeout=60):
        """`(status, lines printed, lines of errors)` of a process, after it has ended."""
        out, err = self.processes[index].communicate(timeout=timeout)
        # Gloo's threads print that they are connected, sometimes within each other's lines.
        out = re.sub(
            r"\[Gloo\] Rank \d+ is connected to \d+ peer ranks\.|Expected number of .* ranks is : \d+", "", out
        )
        # The number of ranks can stand on a line of its own then.
        said = [line.strip() for line in out.splitlines() if line.strip() and not line.strip().isdigit()]
        return self.processes[index].returncode, said, err.splitlines()


def slurm(index, port):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "JAX_COORDINATOR_PORT": str(port),
    }


def open_mpi(index, port):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
        "OMPI_VERSION": "4.1.6",
        "JAX_COORDINATOR_PORT": str(port),
    }


def test_processes_join_by_flags_and_leave_together():
    with Job(2, devices=2) as job:
        for index in range(2):
            status, said, errors = job.result(index)
            assert status == 0, errors
            assert said == [f"joined {index} 2 4 {index == 0}", "running"]


def test_processes_with_pmap_hold_frozen_models_with_and_without_parameters():
    with Job(2, "pmap", devices=2) as job:
        for index in range(2):
            status, said, errors = job.result(index)
            assert status == 0, errors
            assert said[-1] == "{} (2, 3)"


@pytest.mark.parametrize(
    ("environments", "number", "every", "told"), [(slurm, signal.SIGTERM, 1, 1), (open_mpi, signal.SIGINT, 4, 0)]
)
def test_joined_by_a_launcher_a_signal_to_one_process_stops_all_after_the_same_step(environments, number, every, told):
    with Job(2, "steps", every=every, environments=environments) as job:
        for index, process in enumerate(job.processes):
            assert f"joined {index} 2 2 {index == 0}\n" in iter(process.stdout.readline, "")
        job.wait_until_running()
        job.processes[told].send_signal(number)
        results = [job.result(index) for index in range(2)]
    steps = {line for _, said, _ in results for line in said if line.startswith("stopped")}
    assert len(steps) == 1, results
    assert int(steps.pop().split()[1]) % every == 0
    for status, _, errors in results:
        assert status == 128 + number, errors
        assert errors[-1] == f"error: {Stopped(number)}"


@pytest.mark.parametrize(
    ("count", "trouble", "victim", "number"),
    [
        (3, "steps", 1, signal.SIGKILL),
        (3, "barrier", 1, signal.SIGSTOP),  # process 0 is idle, and process 2 waits at the barrier
        (2, "steps", 0, signal.SIGSTOP),
        (2, "steps", 0, signal.SIGKILL),
    ],
)
def test_a_lost_process_ends_all_the_others(count, trouble, victim, number):
    """A killed process closes its sockets. A stopped one leaves them open, as a broken network does."""
    with Job(count, trouble, victim, flags=["heartbeat_timeout=4"]) as job:
        job.wait_until_running()
        job.processes[victim].send_signal(number)
        since = time.monotonic()
        for index in {*range(count)} - {victim}:
            status, _, errors = job.result(index, timeout=30)
            if (victim, number, status) == (0, signal.SIGKILL, -signal.SIGABRT):
                assert any("JAX distributed service detected fatal errors" in line for line in errors)
                continue
            assert status == heartbeat.LOST, errors
            told = [line for line in errors if line.startswith("error: ")]
            assert len(told) == 1
            assert told[0].startswith(f"error: process {victim} of {count}")
            assert "is lost" in told[0]
            if victim:
                assert errors[-1] == told[0]
        # The timeout, a beat to write and one to read, and a process 0 that lingers for 4 beats: about 10 s.
        assert time.monotonic() - since < 4 + 20


def test_a_process_ends_even_if_its_standard_error_is_closed():
    """The client reaches no one, and nobody reads the standard error."""
    code = (
        "import time; from jaxdiff.distributed.heartbeat import Heartbeat; Heartbeat(None, 1, 2, 4.0); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=forced(1), stderr=subprocess.PIPE) as process:
        process.stderr.close()
        try:
            assert process.wait(30) == heartbeat.LOST
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("trouble", "status", "victim", "read"), [("raise", 2, 1, True), ("defect", 1, 0, True), ("defect", 1, 1, False)]
)
def test_an_error_in_one_process_ends_all(trouble, status, victim, read):
    """Also if nobody reads the standard error of the process that fails."""
    with Job(2, trouble, victim) as job:
        if not read:
            job.processes[victim].stderr.close()
            assert job.processes[victim].wait(30) == status
        else:
            ended, _, errors = job.result(victim, timeout=30)
            last = {2: "error: the disk of this one is full", 1: "AssertionError: a defect"}
            assert (ended, errors[-1]) == (status, last[status])
        ended, _, errors = job.result(1 - victim, timeout=30)
    assert (ended, errors[-1]) == (status, f"error: process {victim} of 2 failed: its own output says why")


def test_a_process_that_the_others_do_not_join_ends():
    since = time.monotonic()
    with contextlib.ExitStack() as stack:
        jobs = {}
        for present in (0, 1):
            flags = [f"coordinator=127.0.0.1:{free_port()}", "processes=2", f"process={present}", "join_timeout=3"]
            job = Job(1, environments=lambda *_: {"SLURM_NTASKS": "1"}, flags=flags)
            jobs[present, flags[0][12:]] = stack.enter_context(job)
        for (present, address), job in jobs.items():
            status, said, errors = job.result(0)
            assert (status, said) == (2, [])
            assert errors[-1].startswith(f"error: process {present}: not all processes joined at {address} within 3 s")
    assert time.monotonic() - since < 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"coordinator": "a:1"}, "coordinator = 'a:1', but no processes and no process; allowed are"),
        ({"processes": 2, "process": 0}, "processes = 2, process = 0, but no coordinator"),
        ({"process": 0}, "process = 0, but no coordinator and no processes"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "process = 2; allowed are integers from 0 to 1"),
        ({"coordinator": "a:1", "processes": 2, "process": -1}, "process = -1; allowed are integers from 0 to 1"),
        ({"coordinator": "a:1", "processes": 0, "process": 0}, "processes = 0; allowed are integers of at least 1"),
        *(
            (
                {"coordinator": wrong, "processes": 2, "process": 0},
                "; allowed are HOST:PORT with a port from 1 to 65535",
            )
            for wrong in ("", "a", "a:", ":1", "a:b", "a:0", "a:65536", "::1:80", "http://a:80", "a b:80", "a:+1")
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_joined(arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error, hosts.joined(**arguments):
        pytest.fail("joined")
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken_is_reported_in_one_line():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"'{address}': process 0 cannot listen"):  # noqa: SIM117
            with hosts.joined(address, 2, 0):
                pytest.fail("joined")


SLURM, OPEN_MPI = slurm(0, 1), open_mpi(0, 1)
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("environment", "platforms", "launcher"),
    [
        ({}, "", None),
        ({}, "cuda,cpu", None),
        (SLURM, "", "Slurm"),
        (SLURM | {"SLURM_NTASKS": "1"}, "", None),  # an interactive shell, or a single task
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, "", None),  # sbatch
        (OPEN_MPI, "", "Open MPI"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, "", None),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "", "Open MPI 5"),
        (POD, "", None),  # any pod, for instance of a notebook
        (POD | {"JOB_COMPLETION_INDEX": "0"}, "", "Kubernetes"),
        (POD | {"JOB_COMPLETION_INDEX": "0", "TPU_WORKER_HOSTNAMES": "a,b"}, "tpu,cpu", "the TPU pod"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "cpu", None),  # told not to use the TPU
        ({"TPU_WORKER_HOSTNAMES": "a"}, "tpu,cpu", None),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "tpu,cpu", "the TPU pod"),
        ({}, "tpu,cpu", "the TPU VM"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, "tpu,cpu", None),
    ],
)
def test_the_launcher_is_recognised_by_its_variables(environment, platforms, launcher):
    assert hosts._launcher(environment, platforms) == launcher


@pytest.mark.parametrize("arguments", [{}, {"processes": 1}, {"coordinator": "a:1", "processes": 1, "process": 0}])
def test_one_process_uses_no_network(monkeypatch, arguments):
    for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket"))
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("initialised"))
    if arguments.get("processes") == 1:
        monkeypatch.setenv("SLURM_NTASKS", "2")
    with hosts.joined(**arguments):
        assert hosts.first()


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request):
    """A signal with Python's default handler, whatever handler the tests were started with."""
    default = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}[request.param]
    before = signal.signal(request.param, default)
    yield request.param
    assert signal.signal(request.param, before) is default


def test_a_signal_is_noted_and_given_as_the_reason(number, capsys):
    with stopping() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    with pytest.raises(SystemExit) as end, reporting.reporting_errors():
        raise stop.reason
    assert end.value.code == 128 + number
    assert capsys.readouterr().err == f"error: {Stopped(number)}\n"


def test_an_ignored_signal_stays_ignored(number):
    default = signal.signal(number, signal.SIG_IGN)
    try:
        with stopping() as stop:
            signal.raise_signal(number)
            assert not stop()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, default)


def test_a_second_signal_acts_immediately():
    with contextlib.suppress(KeyboardInterrupt), stopping() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")


def test_in_another_thread_no_signal_is_noted():
    told = []

    def work():
        with stopping() as stop:
            told.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == [False]
