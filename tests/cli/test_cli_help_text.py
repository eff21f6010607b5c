"""The help explains every setting of the kinds that are chosen, with a sentence from the docstrings."""

import dataclasses
import shlex
from typing import Any

import pytest
from settings_tree import RICH, Bare, Diffusion, Settings

from jaxdiff.cli import command_line, help_text


def shown(target: Any, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        command_line.parse(target, shlex.split(line), prog="train.py")
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = shown(Settings(), "--help", capsys)
    for lines in (
        "usage: train.py [--path value ...]\n\nA small training configuration.\n",
        "\nmodel.network = Conv\n    The network. A network of convolutions.\n"
        "  --model.network.kind Bare | Conv | Deep (Conv)\n"
        "  --model.network.channels integer (32)\n      Channels of the first level.\n"
        "  --model.network.multipliers integer ... (1 2)\n      Factors of the channels, one for each level.\n",
        "\nmodel.conditions.label = Class\n    A class.\n  --model.conditions.label.kind Class | Text (Class)\n",
        "  --augmentations.0.kind Crop | Flip (empty)\n      Changes of batches.\n",
        "  --model.teacher.kind Bare | Conv | Deep (none)\n      A second network.\n",
        "\nsolver = heun\n    The solver of samples. Heun's method.\n  --solver.kind churn | ddim | heun (heun)\n",
        "  --solver.order 1 | 2 (2)\n      The order of the last step.\n",
        "\ntrain\n    The training.\n  --train.steps integer (100)\n      Steps of training.\n",
        "  --train.schedule cosine | constant | none (none)\n",
        "  --train.average number | text | none (ema)\n",
        "  --train.overrides NAME=text ... (empty)\n",
    ):
        assert lines in text
    changed = shown(Settings(), "--model.network.kind Deep --solver.kind churn --help", capsys)
    assert "  --model.network.heads integer (4)\n      Numbers of layers, and of heads in each.\n" in changed
    assert "  --model.network.activation relu | gelu (relu)\n      Function between layers.\n" in changed
    assert "  --solver.s_max number (inf)\n      The noise levels between which noise is new.\n" in changed
    assert shown(Settings(), "--seed x -h", capsys) == text


@pytest.mark.parametrize("width", [40, 72])
def test_help_is_as_wide_as_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(Settings(), "--help", capsys).splitlines()
    assert width - 10 < max(map(len, lines)) <= width


def test_settings_without_a_sentence_are_found() -> None:
    assert help_text.undocumented(RICH) == []
    assert help_text.undocumented(dataclasses.replace(RICH, model=Diffusion(Bare(3)))) == [
        "model.network.width",
        "model.network.kind",
    ]
