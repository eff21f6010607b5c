"""Names of the hub become folders here: which files are asked for, and what is said where none come."""

import fnmatch
import sys
from pathlib import Path

import huggingface_hub
import pytest

from jaxdiff.interop import load_pretrained
from jaxdiff.interop.hub import local_folder


def test_a_name_is_downloaded_without_other_formats(monkeypatch, tmp_path):
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    assert local_folder("owner/model-1.5@fp16/tag") == tmp_path
    assert (asked["name"], asked["revision"]) == ("owner/model-1.5", "fp16/tag")
    assert local_folder("owner/model") == tmp_path
    assert asked["revision"] is None

    def wanted(file):
        def matches(name):
            return any(fnmatch.fnmatch(file, pattern) for pattern in asked[name])

        return matches("allow_patterns") and not matches("ignore_patterns")

    used = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"]
    used += ["text_encoder_3/model.safetensors.index.json", "tokenizer_3/spiece.model"]
    unused = [
        "v1-5-pruned.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/model.onnx",
        "unet/a.bin",
    ]
    assert [file for file in used + unused if wanted(file)] == used


def test_a_folder_that_exists_is_not_looked_up(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert local_folder("owner/model") == Path("owner/model")
    assert local_folder("./owner/absent") == Path("owner/absent")


def test_without_the_package_or_the_network_it_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def fails(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(
        ValueError, match=r"^folder = 'owner/model'; allowed are folders that exist, and .* to the hub$"
    ):
        load_pretrained("owner/model")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"^'owner/model', a name on the hub, needs .*interop"):
        load_pretrained("owner/model")
