"""Two hundred damaged, mislabelled and hostile folders: one clear line each, and nothing is run, written or held."""

import json
import pickle
import shutil
import tracemalloc

import jax
import numpy as np
import pytest
from interop_folders import DIT, stored_dit, write_pipeline

from jaxdiff.interop.diffusers.folders import weights_of
from jaxdiff.interop.diffusers.transformers import dit, dit_layout, dit_tensors
from jaxdiff.interop.layout import from_foreign
from jaxdiff.interop.pretrained import read_pretrained
from jaxdiff.interop.tensors import write_tensors
from jaxdiff.networks.module import Spec

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
MOST_MEMORY = 32 * 2**20
RANDOM = np.random.default_rng(0)
CASES = {}


class Payload:
    """A pickle of this object makes a file when it is read."""

    def __reduce__(self):
        return open, ("owned", "w")


def of_bytes(change):
    """A case that changes the bytes of the file of weights."""

    def change_file(folder):
        path = folder / WEIGHTS
        path.write_bytes(change(path.read_bytes()))

    return change_file


def of_header(change):
    """A case that changes the entries of the header of the file of weights."""

    def changed(whole):
        length = int.from_bytes(whole[:8], "little")
        header = change(json.loads(whole[8 : 8 + length]))
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + whole[8 + length :]

    return of_bytes(changed)


def of_arrays(change):
    """A case that writes other arrays."""

    def write(folder):
        write_tensors(folder / WEIGHTS, change(stored_dit()))

    return write


def of_json(path, change):
    """A case that changes the entries of a file of JSON."""

    def write(folder):
        entries = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(change(entries)))

    return write


def of_file(path, content, *gone):
    """A case with another file, and without some files."""

    def write(folder):
        for name in gone:
            (folder / name).unlink()
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


# Damaged bytes: cut files, longer files, and a changed byte in the part of the header that lists arrays.
for i in range(20):
    share = (i + 0.5) / 20
    CASES[f"cut {i}"] = of_bytes(lambda whole, share=share: whole[: int(share * len(whole))])
for i in range(30):
    share, byte = (i + 0.5) / 30, int(RANDOM.integers(1, 256))

    def flip(whole, share=share, byte=byte):
        length = int.from_bytes(whole[:8], "little")
        start = 8 + whole[8 : 8 + length].index(b'"transformer_blocks')
        place = start + int(share * (len(whole[: 8 + length].rstrip()) - start))
        return whole[:place] + bytes([whole[place] ^ byte]) + whole[place + 1 :]

    CASES[f"flip {i}"] = of_bytes(flip)
for length in (0, 1, 2**31, 2**62, 2**64 - 1):
    CASES[f"header of {length} bytes"] = of_bytes(lambda whole, n=length: n.to_bytes(8, "little") + whole[8:])
CASES["longer"] = of_bytes(lambda whole: whole + b"0000")
OTHERS = {
    "empty": b"",
    "page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "archive": b"PK\x03\x04" + bytes(200),
    "pickle": pickle.dumps(Payload()),
    "old pickle": pickle.dumps(Payload(), protocol=0),
}
for name, content in OTHERS.items():
    CASES[f"weights are {name}"] = of_file(WEIGHTS, content)
for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.bin"):
    CASES[f"pickle {name}"] = of_file(f"transformer/{name}", pickle.dumps(Payload()), WEIGHTS)

# Hostile headers.
FIRST = "proj_out_1.bias"
ENTRIES = {
    "offsets after the end": {"data_offsets": [0, 2**40]},
    "negative offsets": {"data_offsets": [-64, 0]},
    "offsets in reverse": {"data_offsets": [64, 0]},
    "offsets of words": {"data_offsets": ["a", "b"]},
    "one offset": {"data_offsets": [0]},
    "a huge shape": {"shape": [2**62, 2**62]},
    "a negative shape": {"shape": [-1, -16]},
    "a shape of fractions": {"shape": [0.5]},
    "a shape of words": {"shape": ["16"]},
    "an unknown type": {"dtype": "F7"},
    "a type of objects": {"dtype": "O"},
    "integers": {"dtype": "I32"},
    "half the type": {"dtype": "F16"},
    "no type": {"dtype": None},
}
for name, entry in ENTRIES.items():
    CASES[name] = of_header(lambda header, entry=entry: header | {FIRST: header[FIRST] | entry})
CASES["no arrays"] = of_header(lambda header: {})
CASES["a list"] = of_header(lambda header: [])
CASES["deep"] = of_header(lambda header: b"[" * 100_000)
CASES["no text"] = of_header(lambda header: b"\xff\xfe{}")
CASES["metadata of numbers"] = of_header(lambda header: header | {"__metadata__": {"format": 3}})
CASES["overlap"] = of_header(lambda header: header | {"more": header[FIRST]})

# Arrays that do not fit.
for name in sorted(stored_dit())[::3]:
    CASES[f"without {name}"] = of_arrays(lambda t, name=name: {n: a for n, a in t.items() if n != name})
for name in sorted(stored_dit())[1::4]:
    CASES[f"longer {name}"] = of_arrays(lambda t, name=name: t | {name: np.concatenate([t[name], t[name]])})
KERNEL = "transformer_blocks.1.attn1.to_q.weight"
ARRAYS = {
    "spare": lambda t: t | {"transformer_blocks.2.attn1.to_q.weight": t[KERNEL]},
    "integers of a kernel": lambda t: t | {KERNEL: t[KERNEL].astype(np.int32)},
    "bytes of a kernel": lambda t: t | {KERNEL: t[KERNEL].astype(np.uint8)},
    "truths of a kernel": lambda t: t | {KERNEL: t[KERNEL] > 0},
    "a flat kernel": lambda t: t | {KERNEL: t[KERNEL].ravel()},
    "a kernel with a window": lambda t: t | {KERNEL: np.tile(t[KERNEL][..., None, None], (1, 1, 3, 3))},
    "a scalar": lambda t: t | {KERNEL: np.float32(1)},
    "an empty kernel": lambda t: t | {KERNEL: t[KERNEL][:0]},
    "other embedders": lambda t: t | {n: a + 1 for n, a in t.items() if "blocks.1.norm1.emb" in n},
    "other names": lambda t: {f"model.{n}": a for n, a in t.items()},
    "long names": lambda t: t | {"a" * 10_000: t[KERNEL]},
    "names of two lines": lambda t: t | {"a\nb": t[KERNEL]},
}
CASES |= {name: of_arrays(change) for name, change in ARRAYS.items()}

# Configurations.
CONFIG = "transformer/config.json"
for key in (*sorted(DIT), "norm_eps", "dropout", "activation_fn", "attention_bias"):
    for value in ("many", -1, [1], 2**120):
        CASES[f"{key} = {value}"] = of_json(CONFIG, lambda c, key=key, value=value: c | {key: value})
for key in ("norm_eps", "dropout"):
    for value in (float("nan"), float("inf"), 10**400):
        CASES[f"{key} = {value:.1e}" if value != 10**400 else f"{key} is long"] = of_json(
            CONFIG, lambda c, key=key, value=value: c | {key: value}
        )
CASES["a wide network"] = of_json(CONFIG, lambda c: c | {"num_attention_heads": 2**20, "attention_head_dim": 2**20})
CASES["a large picture"] = of_json(CONFIG, lambda c: c | {"sample_size": 2**20})
CASES["a deep network"] = of_json(CONFIG, lambda c: c | {"num_layers": 2**20})
TEXTS = {"nothing": "", "half": '{"a": ', "a list": "[]", "deep": "[" * 100_000, "no text": b"\xff\xfe", "null": "null"}
for file in (CONFIG, "model_index.json", "scheduler/scheduler_config.json"):
    for name, text in TEXTS.items():
        CASES[f"{file} is {name}"] = of_file(file, text)

# Schedules and pipelines.
SCHEDULES = [("num_train_timesteps", v) for v in ("many", 0, -1, 2**62, 1.5)]
SCHEDULES += [("beta_start", v) for v in ("small", -1.0, float("nan"), 2.0)]
SCHEDULES += [("trained_betas", v) for v in ("x", [1, "x"], {"a": 1}, [[0.1], [0.2]], [float("nan")] * 9, [])]
SCHEDULES += [("prediction_type", "flow"), ("beta_schedule", {"a": 1}), ("timestep_spacing", [1])]
for key, value in SCHEDULES:
    CASES[f"{key} = {value}"] = of_json("scheduler/scheduler_config.json", lambda c, k=key, v=value: c | {k: v})
PARTS = [{"text_encoder_2": ["a", "B"]}, {"unet": ["diffusers", "UNet2DModel"]}, {"transformer": None}]
PARTS += [{"vae": ["diffusers", "AutoencoderKL"]}, {"scheduler": 3}, {"id2label": [1, 2]}, {"id2label": "tench"}]
PARTS += [{"../../x": ["diffusers", "UNet2DModel"]}]
for part in PARTS:
    CASES[f"parts {part}"] = of_json("model_index.json", lambda c, part=part: c | part)

# Indices of shards.
PLACES = ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "a\\..\\b.bin", "weights.bin", "", ".", "x.npz"]
PLACES += [3, None, ["a"], "none.safetensors", "\x00.safetensors"]
for place in PLACES:
    text = json.dumps({"weight_map": {KERNEL: place}})
    CASES[f"shard {place!r}"] = of_file(INDEX, text, WEIGHTS)
for name, value in {"a list": [1], "a word": "x", "nothing": None}.items():
    CASES[f"map is {name}"] = of_file(INDEX, json.dumps({"weight_map": value}), WEIGHTS)


@pytest.fixture(scope="module")
def shapes():
    """The shapes of the stored network, which is traced once."""
    network = dit(DIT).given({"label": Spec("class", classes=5)})
    arguments = (np.zeros((1, 8, 8, 3), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int32))
    return jax.eval_shape(network.init, jax.random.key(0), *arguments)["params"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("hostile") / "whole")


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_are_enough():
    assert len(CASES) >= 200


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_is_refused(name, whole, shapes, tmp_path, monkeypatch):
    folder = shutil.copytree(whole, tmp_path / "model")
    CASES[name](folder)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)

    def read():
        if CASES[name].__qualname__.startswith(("of_arrays", "of_bytes")):  # the reader of weights alone
            return from_foreign(shapes, dit_tensors(weights_of(folder / "transformer"), 2), dit_layout())
        return read_pretrained(folder)

    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert 10 < len(text) < 2000
    assert "\n" not in text
    assert files(tmp_path) == before
    assert peak < MOST_MEMORY
