"""Compiled programs outlive their process, where the user allows a cache and there is a place for it."""

import os
import subprocess
import sys

import jax
import pytest

from jaxdiff.cli import compilation_cache

# Compiles a donated step with the cache, and again without: in a second process, with truncated files instead. Prints
# the directory that is set, and for each program the result to the last bit, whether its buffer was taken, and the
# numbers of hits and misses.
PROGRAM = """
import sys
from collections import Counter
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.experimental.compilation_cache import compilation_cache as jax_cache
from jaxdiff.cli import compilation_cache

counts = Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event]))

def step():
    counts.clear()
    x = jax.device_put(np.linspace(0, 1, 1000, dtype=np.float32))
    y = jax.jit(lambda x: jnp.sin(x) * x.sum() + jnp.cumsum(x), donate_argnums=0)(x)
    found = [counts[f"/jax/compilation_cache/cache_{event}"] for event in ("hits", "misses")]
    print(np.asarray(y).tobytes().hex(), x.is_deleted(), *found)

compilation_cache.enable()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
directory = Path(jax.config.values["jax_compilation_cache_dir"])
print(directory)
step()
jax.clear_caches()
if sys.argv[1:]:
    for path in directory.glob("*-cache"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
else:
    jax.config.update("jax_enable_compilation_cache", False)
    jax_cache.reset_cache()
step()
"""


def run(home, *arguments):
    kept = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True, text=True, timeout=120, env={**kept, "JAX_PLATFORMS": "cpu", "HOME": str(home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    directory, *programs = done.stdout.splitlines()
    results = [program.split() for program in programs]
    return directory, *((tuple(result[:2]), *map(int, result[2:])) for result in results)


def test_a_second_process_does_not_compile_and_gets_the_same_bits(tmp_path):
    expected = tmp_path / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "jaxdiff" / "xla"
    directory, (first, hits, misses), (plain, *untouched) = run(tmp_path)
    assert directory == str(expected)
    assert hits == 0 < misses
    assert untouched == [0, 0]
    # A kill in the middle of a write leaves a truncated file. The program is then compiled again.
    _, (second, hits, again), (third, torn_hits, _) = run(tmp_path, "truncate")
    assert (hits, again) == (misses, 0)
    assert torn_hits == 0
    assert first == second == third == plain
    assert first[1] == "True"  # the buffer was donated


def test_the_user_s_own_choice_stands(tmp_path, monkeypatch):
    changed = []
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before, enabled = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.enable()
        jax.config.update("jax_enable_compilation_cache", True)
        for own in (str(tmp_path / "own"), ""):
            with monkeypatch.context() as patch:
                patch.setenv("JAX_COMPILATION_CACHE_DIR", own)
                compilation_cache.enable()
        assert jax.config.jax_compilation_cache_dir is None
        assert list(tmp_path.iterdir()) == []
        with monkeypatch.context() as patch:
            patch.setattr("jax.config.update", lambda *args: changed.append(args))
            compilation_cache.enable()
        assert changed == [("jax_compilation_cache_dir", str(tmp_path / "jaxdiff" / "xla"))]
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        jax.config.update("jax_compilation_cache_dir", before)
    monkeypatch.setenv("XDG_CACHE_HOME", "a/relative/path")
    assert compilation_cache.default_directory().is_absolute()


@pytest.mark.parametrize("obstacle", ["file", "permissions"])
def test_without_a_place_for_a_cache_there_is_none(obstacle, tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr("jax.config.update", lambda *args: changed.append(args))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if obstacle == "file":
        (tmp_path / "jaxdiff").write_text("")
    else:
        monkeypatch.setattr("os.access", lambda *_: False)  # permission bits do not stop root
    compilation_cache.enable()
    assert changed == []


@pytest.mark.parametrize(("processes", "kept"), [(1, True), (2, False)])
def test_several_processes_on_cpus_do_without(monkeypatch, processes, kept):
    """Otherwise the first process reads its program, and waits at a collective for others that compile."""
    before = jax.config.values["jax_enable_compilation_cache"]
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    jax.config.update("jax_enable_compilation_cache", True)
    try:
        compilation_cache.disable_in_jobs_on_cpus()
        assert jax.config.values["jax_enable_compilation_cache"] is kept
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
