"""The command `jaxdiff`: its commands by name, and one line where a name or a package is missing."""

import importlib
import io
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from without_extras import WITHOUT_EXTRAS

import jaxdiff
from jaxdiff.cli.main import COMMANDS, main
from jaxdiff.cli.streams import forgiving_streams
from jaxdiff.errors import fail

ROOT = Path(__file__).parents[2]


def test_the_package_installs_the_command():
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["jaxdiff"]
    module, _, name = target.partition(":")
    assert getattr(importlib.import_module(module), name) is main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_a_script(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert out.startswith(f"usage: jaxdiff {command} ")
    assert f'main(["{command}", ' in (ROOT / "scripts" / f"{command.replace('-', '_')}.py").read_text()


def test_the_first_help_names_the_commands(capsys):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: jaxdiff COMMAND [...]"
    assert [line.split()[0] for line in lines if line.startswith("    ")] == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian", "digits"], "command = 'trian'; allowed are {}; did you mean 'train'?"),
        (["compile"], "command = 'compile'; allowed are {}; did you mean 'compile-pod'?"),
        (["--train.steps", "5"], "missing COMMAND before '--train.steps'; allowed are {}"),
        ([], "missing COMMAND; allowed are {}"),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(words, line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", f"error: {line.format(', '.join(COMMANDS))}\n")


@pytest.mark.parametrize(
    ("line", "status", "out", "err"),
    [
        ("--version >&- 2>&- <&-", 0, "", ""),
        ("--version >/dev/full", 0, "", ""),
        ("trian 2>&-", 2, "", ""),
    ],
)
def test_what_a_stream_cannot_take_is_left_out(line, status, out, err):
    command = f"{sys.executable} -m jaxdiff {line}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_characters_that_a_stream_lacks_are_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with forgiving_streams():
        print("\N{SNOWMAN} \udcff")
    assert out.buffer.getvalue() == b"\\u2603 \\udcff\n"


def test_a_line_is_cut(capsys):
    with pytest.raises(SystemExit):
        fail("many words " * 10**5)
    assert capsys.readouterr().err == f"error: {('many words ' * 200)[:2000]}...\n"


def test_without_the_extra_each_command_is_one_line_that_names_it():
    """Help and version need the core alone."""
    program = f"""{WITHOUT_EXTRAS}
from jaxdiff.cli.main import main

main(["--help"])
sys.argv = ["jaxdiff", "--version"]
main()
for command in {list(COMMANDS)}:
    try:
        main([command, "digits"])
    except SystemExit as stop:
        assert stop.code == 2
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith(f"\njaxdiff {jaxdiff.__version__}\n")
    lines = done.stderr.splitlines()
    assert len(lines) == len(COMMANDS)
    for command, line in zip(COMMANDS, lines, strict=True):
        assert line.startswith(f"error: jaxdiff {command} needs the package ")
        assert line.endswith("; pip install 'jaxdiff[train]'")


def test_python_m_jaxdiff_is_the_command():
    program = [sys.executable, "-m", "jaxdiff", "--version"]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"jaxdiff {jaxdiff.__version__}\n"
