"""`--import` imports modules before any value is read."""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from settings_tree import RICH, Diffusion, Settings

from jaxdiff.cli import command_line
from jaxdiff.cli.import_modules import import_modules

SOURCE = """
import dataclasses
from settings_tree import Network

@dataclasses.dataclass(frozen=True)
class Mine(Network):
    width: int = 5
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file with a kind."""
    made = tmp_path / "kinds_of_mine.py"
    made.write_text(SOURCE)
    yield made
    sys.modules.pop("kinds_of_mine", None)


def test_a_kind_of_a_file_is_known_and_keeps_its_class(path: pathlib.Path) -> None:
    for line in (f"--import {path} --import=json", f"--import={path}"):
        arguments = f"--model.network.width 6 --model.network.kind kinds_of_mine:Mine {line}".split()
        network: Any = vars(command_line.parse(RICH, arguments).model)["network"]
        assert type(network) is sys.modules["kinds_of_mine"].Mine
        assert network.width == 6
    changed = command_line.parse(Settings(model=Diffusion(network)), ["--model.network.width", "7"])
    assert changed == Settings(model=Diffusion(dataclasses.replace(network, width=7)))


def test_all_other_arguments_are_left(path: pathlib.Path) -> None:
    line = f"toy2d --import {path} --seed 3 --import=json -- --import x"
    assert import_modules(line.split()) == ["toy2d", "--seed", "3", "--", "--import", "x"]


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("json.py", "", "ValueError: another module has the name 'json' already"),
        ("fails_at_once.py", "import jaxdiff.nosuch\n", "ModuleNotFoundError: No module named 'jaxdiff.nosuch'"),
        ("absent_file.py", None, "FileNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(
    tmp_path: pathlib.Path, name: str, text: str | None, named: str
) -> None:
    before, path = {*sys.modules}, tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"^--import {path}: {named}"):
        import_modules(["--import", str(path)])
    assert name.removesuffix(".py") not in {*sys.modules} - before


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for line, named in (("--import nosuch", "No module named 'nosuch'"), ("--import --seed 3", "needs a value")):
        with pytest.raises(SystemExit) as stop:
            command_line.parse(Settings(), line.split())
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert err.startswith("error: --import")
        assert named in err
        assert len(err.splitlines()) == 1
