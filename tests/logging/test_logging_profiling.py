"""A trace holds exactly the requested steps, and each of them whole."""

import json
import os
import re
import subprocess
import sys

import jax
import pytest

from jaxdiff.logging.profiling import Profiler

# This program runs in its own process, on the CPU only: a libtpu whose version does not fit JAX would crash the profiler,
# and a trace that cannot be written leaves the profiler busy.
TRACES = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp
from jaxdiff.logging.profiling import Profiler

@jax.jit
def work(x):
    return jax.lax.fori_loop(0, 50, lambda _, x: jnp.tanh(x @ x), x)

def run(directory, steps, numbers, each=1, breaks_after=None):
    state = jnp.ones((64, 64)) / 64
    with Profiler(directory, steps, each) as profiler:
        for number in numbers:
            with profiler.step(number, state):
                state = work(state)
            if number == breaks_after:
                raise InterruptedError
        jax.block_until_ready(state)
        profiler.close()

out = Path(sys.argv[1])
for name, arguments in json.loads(sys.argv[2]).items():
    try:
        run(out / name, *arguments)
    except InterruptedError:
        print(name, "broke off")
jax.profiler.start_trace(out / "other")
run(out / "taken", (2, 3), range(1, 5))
jax.profiler.stop_trace()
(out / "file").write_text("")
run(out / "file", (1, 1), range(1, 4))
print("went on")
"""

# For each case: the requested steps, the first steps of the calls, the steps per call, and the call after which training
# breaks off; then the calls that the trace must hold.
CASES = {
    "three": (([3, 5], list(range(1, 9))), [3, 4, 5]),
    "one": (([4, 4], list(range(1, 9))), [4]),
    "whole_call": (([6, 7], list(range(1, 21, 4)), 4), [5]),
    "whole_calls": (([8, 9], list(range(1, 21, 4)), 4), [5, 9]),
    "resumed_inside": (([3, 8], list(range(6, 12))), [6, 7, 8]),
    "resumed_after": (([3, 8], list(range(9, 12))), None),
    "ended_before": (([7, 90], list(range(5, 9))), [7, 8]),
    "none": ((None, list(range(1, 4))), None),
    "broken_off": (([2, 9], list(range(1, 9)), 1, 3), [2, 3]),
    "the_next": (([2, 2], list(range(1, 4))), [2]),
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    directory = tmp_path_factory.mktemp("traces")
    asked = json.dumps({name: arguments for name, (arguments, _) in CASES.items()})
    done = subprocess.run(
        [sys.executable, "-c", TRACES, str(directory), asked],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return directory, done


def traced(directory):
    """For each trace, the numbers of its steps, and the number of times that the device computes a tanh."""
    found = []
    for path in sorted(directory.rglob("*.xplane.pb")):
        steps, operations = [], 0
        trace = jax.profiler.ProfileData.from_file(str(path))  # its events do not keep it alive
        for plane in trace.planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name.startswith("train"):
                        steps.append(dict(event.stats)["step_num"])
                    operations += bool(re.match(r"(?!end: |\$).*tanh", event.name))
        found.append((sorted(steps), operations))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_trace_holds_the_requested_calls(traces, name):
    expected = CASES[name][1]
    assert [steps for steps, _ in traced(traces[0] / name)] == ([] if expected is None else [expected])


def test_a_trace_holds_the_device_s_work_whole(traces):
    ((_, once),) = traced(traces[0] / "one")
    ((_, thrice),) = traced(traces[0] / "three")
    assert thrice == 3 * once > 0


def test_a_trace_that_cannot_be_made_or_written_stops_nothing(traces):
    directory, done = traces
    assert done.stdout == "broken_off broke off\nwent on\n"
    warned = re.findall(r"warning: no trace in (\S+):", done.stderr)
    assert warned == [str(directory / "taken"), str(directory / "file")]
    assert not (directory / "taken").exists()


def test_wrong_arguments_are_named(tmp_path):
    for bad in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match=r"steps = \("):
            Profiler(tmp_path, bad)
    with pytest.raises(ValueError, match="steps_per_call = 0"):
        Profiler(tmp_path, None, 0)
