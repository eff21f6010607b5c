"""Calls of commands, which the tests of `jaxdiff restore` share."""

import shlex

import pytest

from jaxdiff.cli import restore


@pytest.fixture
def restored(place, monkeypatch, capsys):
    """Runs `jaxdiff restore` in the directory `place`: its status, its standard output, and its standard error."""

    def run(line):
        monkeypatch.chdir(place)
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        status = 0
        try:
            restore.main(shlex.split(line))
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        return status, said.out.split(), said.err.strip()

    return run
