"""Several processes: joined by flags or by their launcher, stopped after the same step, and never left waiting."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest
from devices import forced, free_port

from jaxdiff.cli import command_line
from jaxdiff.distributed import hosts
from jaxdiff.distributed.stopping import Stopped, stopping

ROOT = Path(__file__).parents[2]
LAUNCHERS = ("JAX_", "SLURM_", "OMPI_", "TPU_", "MEGASCALE_", "KUBERNETES_", "JOB_COMPLETION")

# Sums over all devices, a step at a time, as training does; `trouble` comes to process `victim` at step 3.
WORKER = """
import os, signal, sys, time
from jaxdiff.training import command_line, hosts
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
                if trouble == "raise" and here:
                    raise ValueError("the disk of this one is full")
                if trouble == "defect" and here:
                    raise AssertionError("a defect")
                if trouble == "idle" or trouble == "barrier" and here:
                    time.sleep(600)
                if trouble == "barrier":
                    multihost_utils.sync_global_devices("never")
            if stop():
                print("stopped", number, flush=True)
                raise stop.reason
            time.sleep(0.05)

def main():
    flags = dict(flag.split("=") for flag in sys.argv[4:])
    flags = {name: value if name == "coordinator" else float(value) if name == "patience" else int(value)
             for name, value in flags.items()}
    with hosts.joined(**flags):
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

with command_line.reporting_errors():
    main()
"""


@pytest.fixture(scope="module", autouse=True)
def interruptible():
    """A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Job:
    """Processes on this machine, one device each, and what they say."""

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
        """`(status, lines printed, lines of errors)`, once it has ended."""
        out, err = self.processes[index].communicate(timeout=timeout)
        # Gloo's threads say that they are connected, sometimes into each other's lines.
        out = re.sub(
            r"\[Gloo\] Rank \d+ is connected to \d+ peer ranks\.|Expected number of .* ranks is : \d+", "", out
        )
        said = [line.strip() for line in out.splitlines() if line.strip()]
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


@pytest.mark.parametrize("environments", [None, slurm, open_mpi])
def test_processes_join_and_leave_together(environments):
    with Job(2, environments=environments, devices=2) as job:
        for index in range(2):
            status, said, errors = job.result(index)
            assert status == 0, errors
            assert said == [f"joined {index} 2 4 {index == 0}", "running"]


@pytest.mark.parametrize(("number", "every", "told"), [(signal.SIGTERM, 1, 1), (signal.SIGINT, 4, 0)])
def test_a_signal_to_one_process_stops_all_after_the_same_step(number, every, told):
    with Job(2, "steps", every=every) as job:
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
    ("trouble", "victim", "number"),
    [
        ("steps", 1, signal.SIGKILL),
        ("steps", 0, signal.SIGKILL),
        ("steps", 0, signal.SIGSTOP),
        ("idle", 1, signal.SIGKILL),
        ("barrier", 1, signal.SIGSTOP),
    ],
)
def test_a_lost_process_ends_all_the_others(trouble, victim, number):
    """Killed, its sockets close; stopped, they stay open, as where the network is gone."""
    with Job(3, trouble, victim, flags=["heartbeat_timeout=4"]) as job:
        job.wait_until_running()
        job.processes[victim].send_signal(number)
        since = time.monotonic()
        for index in {0, 1, 2} - {victim}:
            status, _, errors = job.result(index, timeout=30)
            assert status == peers.LOST, errors
            told = [line for line in errors if line.startswith("error: ")]
            assert len(told) == 1
            assert errors[-1] == told[0]
            assert told[0].startswith(f"error: process {victim} of 3")
            assert "is lost" in told[0]
        # The patience, a beat to write and one to read, and a process 0 that lingers: far from a minute.
        assert time.monotonic() - since < 4 + 20


def test_the_end_comes_though_nobody_listens():
    """A client that reaches no one, in a process whose standard error no one reads."""
    code = "import time; from jaxdiff.training import peers; peers.Heartbeat(None, 1, 2, 'nowhere:1', 4.0); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], env=forced(1), stderr=subprocess.PIPE) as process:
        process.stderr.close()
        try:
            assert process.wait(30) == peers.LOST
        finally:
            process.kill()


@pytest.mark.parametrize(("trouble", "status", "victim"), [("raise", 2, 1), ("defect", 1, 0)])
def test_an_error_in_one_process_ends_all(trouble, status, victim):
    with Job(2, trouble, victim) as job:
        results = [job.result(index, timeout=30) for index in range(2)]
    assert [result[0] for result in results] == [status, status]
    assert results[victim][2][-1] == {2: "error: the disk of this one is full", 1: "AssertionError: a defect"}[status]
    assert results[1 - victim][2][-1] == f"error: process {victim} of 2 failed: its own output says why"


@pytest.mark.parametrize(("trouble", "status"), [("raise", 2), ("defect", 1)])
def test_an_error_that_nobody_reads_ends_all(trouble, status):
    with Job(2, trouble, victim=1) as job:
        job.processes[1].stderr.close()
        assert [process.wait(30) for process in job.processes] == [status, status]


@pytest.mark.parametrize("present", [0, 1])
def test_those_that_never_come_are_not_waited_for(present):
    flags = [f"coordinator=127.0.0.1:{free_port()}", "processes=2", f"process={present}", "timeout=3"]
    since = time.monotonic()
    with Job(1, environments=lambda *_: {"SLURM_NTASKS": "1"}, flags=flags) as job:
        status, said, errors = job.result(0)
    assert (status, said) == (2, [])
    assert errors[-1].startswith(f"error: process {present}: not all processes have come to {flags[0][12:]} within 3 s")
    assert time.monotonic() - since < 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"coordinator": "a:1"}, "coordinator = 'a:1', but no processes and no process"),
        ({"processes": 2, "process": 0}, "processes = 2, process = 0, but no coordinator"),
        ({"process": 0}, "process = 0, but no coordinator and no processes"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "process = 2; allowed are 0 to 1, since processes = 2"),
        ({"coordinator": "a:1", "processes": 2, "process": -1}, "process = -1; allowed are 0 to 1"),
        ({"coordinator": "a:1", "processes": 0, "process": 0}, "processes = 0; allowed are positive integers"),
        *(
            ({"coordinator": wrong, "processes": 2, "process": 0}, "allowed is HOST:PORT with a port from 1 to 65535")
            for wrong in ("", "a", "a:", ":1", "a:b", "a:0", "a:65536", "::1:80", "http://a:80", "a b:80", "a:+1")
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_anything_is_touched(arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error, hosts.joined(**arguments):
        pytest.fail("joined")
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken_is_one_line():
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
        (SLURM | {"SLURM_NTASKS": "1"}, "", None),  # an interactive shell, or one task
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, "", None),  # sbatch
        (OPEN_MPI, "", "Open MPI"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, "", None),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "", "Open MPI 5"),
        (POD, "", None),  # any pod, a notebook's too
        (POD | {"JOB_COMPLETION_INDEX": "0"}, "", "Kubernetes"),
        (POD | {"JOB_COMPLETION_INDEX": "0", "TPU_WORKER_HOSTNAMES": "a,b"}, "tpu,cpu", "the TPU pod"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "cpu", None),  # told to leave the TPU alone
        ({"TPU_WORKER_HOSTNAMES": "a"}, "tpu,cpu", None),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "tpu,cpu", "the TPU pod"),
        ({}, "tpu,cpu", "the TPU VM"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, "tpu,cpu", None),
    ],
)
def test_the_launcher_is_told_from_its_variables(environment, platforms, launcher):
    assert hosts._launcher(environment, platforms) == launcher


@pytest.mark.parametrize("arguments", [{}, {"processes": 1}, {"coordinator": "a:1", "processes": 1, "process": 0}])
def test_one_process_touches_no_network(monkeypatch, arguments):
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
    """A signal as Python has it, whatever whoever started the tests has made of it."""
    default = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}[request.param]
    before = signal.signal(request.param, default)
    yield request.param
    assert signal.signal(request.param, before) is default


def test_a_signal_is_noted_and_told_as_the_reason(number, capsys):
    with stopping() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    with pytest.raises(SystemExit) as end, command_line.reporting_errors():
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


def test_a_second_signal_acts_at_once():
    with contextlib.suppress(KeyboardInterrupt), stopping() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")
    code = "import signal\nfrom jaxdiff.distributed.stopping import stopping\nwith stopping() as stop:\n"
    code += "    signal.raise_signal(15)\n    print(stop(), flush=True)\n    signal.raise_signal(15)"
    clean = {"PYTHONPATH": str(ROOT), **os.environ}
    ended = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "True\n")


def test_another_thread_has_no_signals_to_note():
    told = []

    def work():
        with stopping() as stop:
            told.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == [False]
