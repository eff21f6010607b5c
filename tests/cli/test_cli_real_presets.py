"""The presets of the package and of `configs/`: their help explains every setting, and every mistake is one line."""

import os
from pathlib import Path

import pytest
from malformed import malformed

from jaxdiff import presets
from jaxdiff.cli import command_line, compile_pod, ema, evaluate, sample, train
from jaxdiff.cli.help_text import sentences, summary, undocumented
from jaxdiff.components import kinds_of, options_of, settings_of, to_json
from jaxdiff.presets import open_preset
from jaxdiff.runs.config import Config

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.py"))
PRESETS = [*presets.NAMES, *map(str, CONFIGS)]


def short(preset):
    return Path(preset).stem


def read(arguments, capsys):
    """The status, the output and the errors of a command line."""
    try:
        with command_line.reporting_errors():
            command_line.parse_preset(train.Arguments, arguments, prog="train.py")
    except SystemExit as stop:
        out, err = capsys.readouterr()
        return stop.code, out, err
    capsys.readouterr()
    return None, "", ""


@pytest.mark.parametrize("preset", PRESETS, ids=short)
def test_the_help_of_a_preset_shows_every_setting_with_a_sentence(preset, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, err = read([preset, "--help"], capsys)
    assert (status, err) == (0, "")
    config = open_preset(preset).config
    assert undocumented(config) == []

    def paths(tree, path):
        if isinstance(tree, dict) and tree:
            for name, item in tree.items():
                yield from paths(item, f"{path}.{name}".lstrip("."))
        elif not isinstance(tree, list | dict):
            yield path

    found = list(paths(to_json(config), ""))
    assert len(found) > 60
    # A part that is absent is shown with the kinds that it may have.
    assert [path for path in found if f"  --{path} " not in out and f"  --{path}.kind " not in out] == []


COMMANDS = {
    "train": train.Arguments(),
    "compile_pod": compile_pod.Arguments(),
    "sample": sample.Arguments(run=Path("run")),
    "evaluate": evaluate.Arguments(run=Path("run")),
    "ema": ema.Arguments(run=Path("run"), width=0.1),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_of_every_command_has_a_sentence(name):
    assert undocumented(COMMANDS[name]) == []


def kinds_below(hint, found):
    """All kinds that a setting of this type can have, and the kinds that their own settings can have."""
    for kind in kinds_of(hint).values():
        if kind not in found:
            found.append(kind)
            for option in (settings_of(kind) if isinstance(kind, type) else options_of(kind)).values():
                kinds_below(option.hint, found)
    return found


def test_every_setting_of_every_kind_has_a_sentence():
    """Also of the kinds that no preset chooses, since `--path.kind KIND --help` shows them."""
    kinds = []
    for option in settings_of(Config).values():
        kinds_below(option.hint, kinds)
    assert len(kinds) > 70
    missing = []
    for kind in kinds:
        names = settings_of(kind) if isinstance(kind, type) else options_of(kind)
        # The caller of a function gives arguments such as the process, which are no settings and need no sentence here.
        missing += [f"{kind.__name__}.{name}" for name in names if name not in sentences(kind)]
        missing += [kind.__name__] * (not summary(kind))
    assert missing == []


EACH = 60


@pytest.mark.parametrize("preset", PRESETS[:5], ids=short)
def test_a_malformed_flag_is_one_line_and_leaves_nothing(preset, capsys, tmp_path, monkeypatch):
    """300 lines over five presets, in one process."""
    monkeypatch.chdir(tmp_path)
    lines = malformed(open_preset(preset).config, EACH)
    assert len(lines) == EACH
    for arguments, flag in lines:
        status, out, err = read([preset, *arguments], capsys)
        assert (status, out) == (2, ""), (arguments, status)
        assert len(err.splitlines()) == 1, (arguments, err)
        assert err.startswith("error: ")
        assert flag in err, (arguments, err)
    assert os.listdir(tmp_path) == []
