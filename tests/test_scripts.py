"""The studies and benchmarks: each imports what it needs and says its arguments."""

import importlib.util
import sys
from pathlib import Path

import pytest

from jaxdiff.cli import command_line

SCRIPTS = Path(__file__).parents[1] / "scripts"


def programs():
    """The scripts that are called by themselves."""
    files = sorted(path for folder in ("studies", "benchmark") for path in (SCRIPTS / folder).glob("*.py"))
    return [path for path in files if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.stem)
def test_a_script_says_its_arguments(path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    before = set(sys.modules)
    # By its path: folders of tests have the names of some scripts.
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    try:
        spec.loader.exec_module(module)
        with pytest.raises(SystemExit) as ended:
            command_line.run(module.main)
    finally:
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == path.parent:
                del sys.modules[name]
    assert ended.value.code in (0, None)
    out = capsys.readouterr().out
    assert "usage" in out.lower()
