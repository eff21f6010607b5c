"""Tokenizers in folders of transformers: ids beside transformers' own, cutting, padding, and refused files."""

import io
import json
import pickle
import random

import numpy as np
import pytest
import sentencepiece
from text_folders import stored, write_tokenizer_files

from jaxdiff.interop.tokenizers import read_tokenizer, write_tokenizer

TEXTS = [str(text) for text in stored("texts")["texts"]]
CASES = ("tokens_clip_l", "tokens_clip_g", "tokens_bert")


@pytest.mark.parametrize("case", CASES)
def test_ids_and_masks_are_those_of_transformers(case, tmp_path):
    """Of texts with spaces, accents, other scripts, emoji, control characters and special tokens, cut to 12 ids."""
    tokenizer = read_tokenizer(write_tokenizer_files(tmp_path, case))
    expected = stored(case)
    assert len(TEXTS) >= 20
    for text, ids, mask in zip(TEXTS, expected["ids"], expected["mask"], strict=True):
        found = tokenizer(text, 12)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, [ids, mask], err_msg=repr(text))


def test_clip_l_is_padded_with_the_end_and_the_others_with_id_0(tmp_path):
    """Two special tokens are the last ids of CLIP's vocabulary."""
    found = [read_tokenizer(write_tokenizer_files(tmp_path / case, case)) for case in CASES[:2]]
    end = len(json.loads((tmp_path / CASES[0] / "vocab.json").read_text())) - 1
    assert [tokenizer.padding for tokenizer in found] == [end, 0]
    for tokenizer in found:
        assert tokenizer("", 5).tolist() == [[end - 1, end, *[tokenizer.padding] * 3], [1, 1, 0, 0, 0]]


@pytest.mark.parametrize("case", CASES)
def test_a_tokenizer_is_written_and_sent_to_other_processes(case, tmp_path):
    tokenizer = read_tokenizer(write_tokenizer_files(tmp_path / "first", case))
    (tmp_path / "second").mkdir()
    write_tokenizer(tokenizer, tmp_path / "second")
    for other in (read_tokenizer(tmp_path / "second"), pickle.loads(pickle.dumps(tokenizer))):
        assert other == tokenizer
        assert hash(other) == hash(tokenizer)
        np.testing.assert_array_equal(other(TEXTS[3], 9), tokenizer(TEXTS[3], 9))
    assert tokenizer.text(tokenizer("the cat", 9)) == "the cat"


def sentencepiece_model():
    """A model with the special ids of T5."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat of the photo", "a photo of the cat", "cats"] * 5),
        model_writer=model,
        vocab_size=24,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=5,
    )
    return model.getvalue()


def test_a_text_of_sentencepiece_ends_with_1_and_is_padded_with_0(tmp_path):
    """The pieces themselves are the library's."""
    contents = sentencepiece_model()
    (tmp_path / "spiece.model").write_bytes(contents)
    tokenizer = read_tokenizer(tmp_path)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=contents).encode("the cat")
    n = len(pieces)
    assert 1 < n < 9
    assert tokenizer("the cat", n + 3).tolist() == [[*pieces, 1, 0, 0], [*[1] * (n + 1), 0, 0]]
    assert tokenizer("the cat", n).tolist() == [[*pieces[:-1], 1], [1] * n]
    assert tokenizer("", 3).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert tokenizer.text(tokenizer("the cat", 12)) == "the cat"
    (tmp_path / "copy").mkdir()
    write_tokenizer(tokenizer, tmp_path / "copy")
    assert read_tokenizer(tmp_path / "copy") == tokenizer


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


REFUSED = {
    "nothing": (lambda f: (f / "vocab.json").unlink(), r"folder of a tokenizer = '.*'; allowed are folders that hold"),
    "no merges": (lambda f: (f / "merges.txt").unlink(), r"vocab\.json: cannot be read as a tokenizer: .*merges\.txt"),
    "no vocabulary": (write("vocab.json", "{"), r"vocab\.json: cannot be read as a tokenizer"),
    "another vocabulary": (write("vocab.json", '{"a": 0}'), r"vocab\.json: cannot be read as a tokenizer"),
    "ids that are words": (write("vocab.json", '{"a": "b"}'), r"vocab\.json: cannot be read as a tokenizer"),
    "merges of three": (write("merges.txt", "a b c\n"), r"vocab\.json: cannot be read as a tokenizer"),
    "no end": (
        lambda f: [write("vocab.json", '{"a": 0, "<|startoftext|>": 1}')(f), write("merges.txt", "")(f)],
        r"the vocabulary has no <\|endoftext\|>",
    ),
    "bytes": (lambda f: (f / "tokenizer.json").write_bytes(b"\xff\x00"), r"tokenizer\.json: cannot be read as a token"),
    "another file": (write("tokenizer.json", '{"model": {"type": "GPT"}}'), r"tokenizer\.json: cannot be read as a"),
    "a model of noise": (
        lambda f: [(f / "vocab.json").unlink(), (f / "spiece.model").write_bytes(bytes(range(256)))],
        r"spiece\.model: cannot be read as a tokenizer",
    ),
    "unknown padding": (write("tokenizer_config.json", '{"pad_token": "[NO]"}'), r"pad_token = '\[NO\]'; allowed are"),
    "config of words": (write("tokenizer_config.json", "pad"), r"tokenizer_config\.json: cannot be read as JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused(tmp_path, name):
    folder = write_tokenizer_files(tmp_path, "tokens_clip_l")
    change, words = REFUSED[name]
    change(folder)
    with pytest.raises(ValueError, match=words) as error:
        read_tokenizer(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(10**12)  # a file with a hole, which takes no space
    with pytest.raises(ValueError, match=r"tokenizer\.json: .* has 1000000000000 bytes; allowed are at most 100000000"):
        read_tokenizer(tmp_path)


def test_the_length_has_places_for_begin_and_end(tmp_path):
    tokenizer = read_tokenizer(write_tokenizer_files(tmp_path, "tokens_clip_l"))
    with pytest.raises(ValueError, match="length = 1; allowed are integers of at least 2"):
        tokenizer("the cat", 1)


def test_the_text_of_ids_has_all_letters(tmp_path):
    tokenizer = read_tokenizer(write_tokenizer_files(tmp_path, "tokens_clip_l"))
    assert tokenizer.text(tokenizer("Café  日本語 🐱", 77)) == "café 日本語 🐱"
    assert tokenizer.text(tokenizer("", 77)) == ""


@pytest.mark.parametrize("case", [*CASES[::2], "sentencepiece"])
def test_a_damaged_file_is_refused_or_read(tmp_path, case):
    """Cut, changed, shortened and lengthened files, and noise."""
    if case == "sentencepiece":
        (tmp_path / "spiece.model").write_bytes(sentencepiece_model())
    else:
        write_tokenizer_files(tmp_path, case)
    rng, files, refused = random.Random(0), sorted(tmp_path.iterdir()), []
    for _ in range(40):
        file = rng.choice(files)
        whole = file.read_bytes()
        i, j = sorted(rng.randrange(len(whole) + 1) for _ in range(2))
        changed = (
            whole[:i],
            whole[:i] + rng.randbytes(3) + whole[i + 3 :],
            whole[:i] + whole[j:],
            whole[:j] + whole[i:],
        )
        file.write_bytes(rng.choice([*changed, rng.randbytes(100)]))
        try:
            assert read_tokenizer(tmp_path)("the cat", 7).shape == (2, 7)
        except ValueError as error:
            refused.append(str(error))
        file.write_bytes(whole)
    assert len(refused) >= 10
    assert not any("\n" in text for text in refused)
