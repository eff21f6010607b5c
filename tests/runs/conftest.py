"""The fixtures of tests that train: shared compiled steps, and a run without interruption."""

import json

import jax
import pytest
from run_settings import TOY

from jaxdiff.components import to_json
from jaxdiff.runs import loop, program


@pytest.fixture(scope="package")
def compiled_once(tmp_path_factory):
    """Runs in this process share a compiled step, and processes started from here share a compilation cache.

    The step depends neither on the periods of reports nor, at a constant learning rate, on the length of the run.
    """
    programs = {}

    def shared(training, frozen):
        if training.config.optimizer.schedule != "constant":
            return program.make_program(training, frozen)  # of another test of this folder, which shares nothing
        settings = to_json(training.config)
        if "max_skipped" not in settings["optimizer"]:
            return program.make_program(training, frozen)  # an optimiser of a test's own, which shares nothing either
        for name in ("steps", "start_from", "validate_every", "held_out", "keep", "keep_every", "keep_best"):
            del settings["train"][name]
        for name in ("log_every", "sample_every", "checkpoint_every", "snapshot_every"):
            del settings["train"][name]
        del settings["optimizer"]["max_skipped"], settings["validation"], settings["data"], settings["sample"]
        key = f"{json.dumps(settings)} {training.bound.fields}"
        if key not in programs:
            programs[key] = program.make_program(training, frozen)
        return programs[key]

    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_program", shared)
        for name, value in options.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="package")
def toy(tmp_path_factory, compiled_once):
    """A run without interruption. No test changes it."""
    run = tmp_path_factory.mktemp("runs") / "toy"
    loop.train(TOY, run)
    return run
