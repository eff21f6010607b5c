"""A trace holds the steps that were asked for, whole, and no others; compiled programs outlive their process."""

import json
import os
import re
import subprocess
import sys

import jax
import pytest

from jaxdiff.cli import compilation_cache
from jaxdiff.logging.profiling import Profiler

# In a process of its own, with the CPU only: a libtpu of another version than JAX's would bring the profiler down, and
# a trace that could not be written leaves it taken.
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

# Of each: the steps asked for, the numbers of the calls, steps a call, the call after which it breaks off; and the
# calls that the trace has to show.
CASES = {
    "three": (([3, 5], list(range(1, 9))), [3, 4, 5]),
    "one": (([4, 4], list(range(1, 9))), [4]),
    "whole_call": (([6, 7], list(range(1, 21, 4)), 4), [5]),
    "whole_calls": (([8, 9], list(range(1, 21, 4)), 4), [5, 9]),
    "resumed_amid": (([3, 8], list(range(6, 12))), [6, 7, 8]),
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
    """The numbers of the steps in each trace, and how often the device is seen to take a tanh."""
    found = []
    for path in sorted(directory.rglob("*.xplane.pb")):
        steps, operations = [], 0
        trace = jax.profiler.ProfileData.from_file(str(path))  # what it holds does not keep it alive
        for plane in trace.planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name.startswith("train"):
                        steps.append(dict(event.stats)["step_num"])
                    operations += bool(re.match(r"(?!end: |\$).*tanh", event.name))
        found.append((sorted(steps), operations))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_trace_holds_the_calls_asked_for(traces, name):
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


# Prints the directory that is set, and a donated step's result to the last bit, whether its buffer was taken, and how
# often the cache was asked and knew.
CACHED = """
import jax, jax.numpy as jnp, numpy as np
from collections import Counter
from jaxdiff.training import compilation_cache
compilation_cache.enable()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
counts = Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event]))
x = jax.device_put(np.linspace(0, 1, 1000, dtype=np.float32))
y = jax.jit(lambda x: jnp.sin(x) * x.sum() + jnp.cumsum(x), donate_argnums=0)(x)
print(jax.config.values["jax_compilation_cache_dir"])
print(np.asarray(y).tobytes().hex(), x.is_deleted())
print(counts["/jax/compilation_cache/cache_hits"], counts["/jax/compilation_cache/cache_misses"])
"""


def cached(home, **environment):
    kept = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment = {**kept, "JAX_PLATFORMS": "cpu", "HOME": str(home), **environment}
    done = subprocess.run([sys.executable, "-c", CACHED], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    directory, result, counts = done.stdout.splitlines()
    hits, misses = map(int, counts.split())
    return directory, result, hits, misses


def test_a_second_process_need_not_compile_and_gets_the_same_to_the_bit(tmp_path):
    expected = tmp_path / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "jaxdiff" / "xla"
    directory, first, hits, misses = cached(tmp_path)
    assert (directory, hits) == (str(expected), 0)
    assert misses > 0
    _, second, hits, again = cached(tmp_path)
    assert (hits, again) == (misses, 0)
    _, plain, hits, again = cached(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")
    assert (hits, again) == (0, 0)
    assert first == second == plain
    assert first.endswith("True")  # the buffer was donated
    # What a kill amid a write leaves is compiled anew.
    for path in expected.glob("*-cache"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, third, hits, _ = cached(tmp_path)
    assert (third, hits) == (first, 0)


def test_the_user_s_own_choice_stands(tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr("jax.config.update", lambda *args: changed.append(args))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for own in (str(tmp_path / "own"), ""):
        with monkeypatch.context() as patch:
            patch.setenv("JAX_COMPILATION_CACHE_DIR", own)
            compilation_cache.enable()
    assert changed == []
    assert list(tmp_path.iterdir()) == []
    assert jax.config.values["jax_compilation_cache_dir"] is None  # other tests have left it alone
    compilation_cache.enable()
    assert changed == [("jax_compilation_cache_dir", str(tmp_path / "jaxdiff" / "xla"))]
    # A relative path is none.
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert compilation_cache.default_directory().is_absolute()


def test_where_there_is_no_place_for_a_cache_there_is_none(tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr("jax.config.update", lambda *args: changed.append(args))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    (tmp_path / "jaxdiff").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation_cache.enable()
    (tmp_path / "jaxdiff").unlink()
    monkeypatch.setattr("os.access", lambda *_: False)  # no permission bit holds off the administrator
    compilation_cache.enable()
    assert changed == []
