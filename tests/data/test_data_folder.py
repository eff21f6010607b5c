import json
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from jaxdiff.components import from_json, to_json
from jaxdiff.data import Dataset, Field, Folder, in_memory, training_batches
from jaxdiff.data.picture_files import decode_picture


def open_folder(path, **options):
    return Folder(path, **options).open()


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def grey(value, height=4, width=4):
    return np.full((height, width), value)


def colour(value, height=4, width=4):
    return np.full((height, width, 3), [value, 0, 0])


def test_subfolders_are_classes_in_sorted_order(tmp_path):
    write(tmp_path / "owl" / "b.png", grey(3))
    write(tmp_path / "owl" / "deep" / "a.png", grey(4))
    write(tmp_path / "cat" / "z.png", grey(1))
    write(tmp_path / "cat" / "a.PNG", grey(0))
    write(tmp_path / "cat" / ".hidden.png", grey(9))
    write(tmp_path / ".cache" / "x.png", grey(9))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    examples = open_folder(tmp_path)
    assert examples.fields == {
        "image": Field("picture", (4, 4, 1), "uint8"),
        "label": Field("label", (), "int32", 2, ("cat", "owl")),
    }
    assert len(examples) == 4
    assert [(int(r["image"][0, 0, 0]), r["label"]) for r in examples.source] == [(0, 0), (1, 0), (3, 1), (4, 1)]


def test_names_that_are_no_utf_8_are_names(tmp_path):
    name = os.fsdecode(b"c\xffat")
    write(tmp_path / name / "a.png", grey(1))
    examples = open_folder(tmp_path)
    assert examples.fields["label"].names == (name,)
    assert len(examples.identity()) == 32


def test_a_flat_folder_is_unlabelled(tmp_path):
    for i in (2, 0, 1):
        write(tmp_path / f"{i}.png", colour(i))
    (tmp_path / "empty").mkdir()
    examples = open_folder(tmp_path)
    assert examples.fields == {"image": Field("picture", (4, 4, 3), "uint8")}
    assert [int(examples.source[i]["image"][0, 0, 0]) for i in range(3)] == [0, 1, 2]
    assert "label" not in examples.source[0]


def test_one_colour_picture_makes_all_rgb(tmp_path):
    write(tmp_path / "a.png", grey(7))
    write(tmp_path / "b.png", colour(7))
    examples = open_folder(tmp_path)
    np.testing.assert_array_equal(examples.source[0]["image"], np.full((4, 4, 3), 7))
    np.testing.assert_array_equal(examples.source[1]["image"], colour(7))


def test_mixed_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png", grey(50, 8, 12))
    write(tmp_path / "b.png", grey(60, 30, 10))
    with pytest.raises(ValueError, match=r"size = None.*a\.png has 12x8 pixels and .*b\.png has 10x30"):
        open_folder(tmp_path)
    examples = in_memory(open_folder(tmp_path, size=6))
    assert examples.fields["image"].shape == (6, 6, 1)
    np.testing.assert_array_equal(examples.source.columns["image"][..., 0], np.stack([grey(50, 6, 6), grey(60, 6, 6)]))


def test_pictures_of_any_aspect_can_be_padded(tmp_path):
    write(tmp_path / "a.png", grey(50, 2, 4))
    write(tmp_path / "b.png", grey(60, 8, 4))
    pixels = in_memory(open_folder(tmp_path, size=4, fit="pad")).source.columns["image"][..., 0]
    np.testing.assert_array_equal(pixels[0], [[255] * 4, [50] * 4, [50] * 4, [255] * 4])
    np.testing.assert_array_equal(pixels[1], [[255, 60, 60, 255]] * 4)


def test_oblong_pictures_of_one_size_are_unchanged(tmp_path):
    rows = np.arange(3)[:, None] * np.ones((1, 5))
    write(tmp_path / "a.png", rows)
    examples = open_folder(tmp_path)
    assert examples.fields["image"].shape == (3, 5, 1)
    np.testing.assert_array_equal(examples.source[0]["image"][..., 0], rows)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    write(tmp_path / "a.webp", pixels, exif=exif, lossless=True)
    examples = open_folder(tmp_path)
    assert examples.fields["image"].shape == (3, 2, 3)
    np.testing.assert_array_equal(examples.source[0]["image"], np.rot90(pixels, -1))


def test_an_orientation_that_is_no_number_turns_nothing(tmp_path):
    pixels = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    entry = struct.pack("<HHI4s", 0x0112, 2, 2, b"6\0\0\0")  # text, as some programs write it
    write(tmp_path / "a.webp", pixels, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4), lossless=True)
    np.testing.assert_array_equal(in_memory(open_folder(tmp_path)).source.columns["image"][0], pixels)


def test_a_file_of_another_format_reaches_no_other_program(tmp_path, monkeypatch):
    """PIL itself would run Ghostscript, which finds PostScript by its contents."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\n: > {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # which looks for the program again
    header = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    (tmp_path / "a.png").write_bytes(header + b"showpage\n%%EOF\n")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture: cannot identify"):
        in_memory(open_folder(tmp_path))
    with pytest.raises(ValueError, match="not a picture: cannot identify"):
        decode_picture((tmp_path / "a.png").read_bytes(), 3)
    assert not (tmp_path / "ran").exists()


def test_a_file_without_a_picture_is_named_at_once(tmp_path):
    write(tmp_path / "good.png", grey(1))
    (tmp_path / "bad.png").write_bytes(b"not a picture at all")
    with pytest.raises(ValueError, match=r"bad\.png cannot be read as a picture"):
        open_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_named_when_it_is_decoded(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32))
    for name in ("a", "b"):
        write(tmp_path / f"{name}.{suffix}", noise)
    bad = tmp_path / f"b.{suffix}"
    bad.write_bytes(bad.read_bytes()[:-300])
    examples = open_folder(tmp_path)
    for reading in (in_memory, lambda examples: next(training_batches(examples, 2, seed=0))):
        with pytest.raises(ValueError, match=rf"b\.{suffix} cannot be read as a picture"):
            reading(examples)


def test_a_picture_that_has_changed_its_size_is_named(tmp_path):
    write(tmp_path / "a.png", grey(1))
    examples = open_folder(tmp_path)
    write(tmp_path / "a.png", grey(1, 5, 7))
    with pytest.raises(ValueError, match=r"a\.png has 7x5 pixels; allowed are 4x4, as when the folder was opened"):
        in_memory(examples)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture: .*No such file"):
        in_memory(examples)


@pytest.mark.parametrize("before", [True, False])
def test_a_picture_too_large_for_its_decoder_is_named(tmp_path, monkeypatch, before):
    write(tmp_path / "a.png", grey(1, 30, 30))
    examples = None if before else open_folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture: .*decompression bomb") as caught:
        in_memory(open_folder(tmp_path) if before else examples)
    assert "\n" not in str(caught.value)


def test_links_are_followed_for_classes_and_inside_them(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    write(outside / "one" / "a.png", grey(1))
    write(outside / "two" / "deep" / "b.png", grey(2))
    write(outside / "c.png", grey(3))
    write(root / "cat" / "d.png", grey(4))
    (root / "owl").symlink_to(outside / "one")
    (root / "cat" / "more").symlink_to(outside / "two")
    (root / "cat" / "c.png").symlink_to(outside / "c.png")
    # Links to folders above them are cut, whether the folder is above by its own path or through another link.
    (root / "cat" / "loop").symlink_to(root)
    (outside / "two" / "deep" / "loop").symlink_to(outside / "two")
    examples = open_folder(root)
    assert examples.fields["label"].names == ("cat", "owl")
    assert examples.source.names == ("cat/c.png", "cat/d.png", "cat/more/deep/b.png", "owl/a.png")
    assert in_memory(examples).source.columns["image"][:, 0, 0, 0].tolist() == [3, 4, 2, 1]
    (root / "cat" / "gone.png").symlink_to(outside / "nothing.png")
    with pytest.raises(ValueError, match=r"gone\.png cannot be read as a picture"):
        open_folder(root)


def test_a_name_that_is_not_utf8_is_a_name_like_others(tmp_path):
    write(tmp_path / os.fsdecode(b"\xff.png"), grey(3))
    found = open_folder(tmp_path)
    assert in_memory(found).source[0]["image"][0, 0, 0] == 3
    assert len(found.identity()) == 32


def captioned(folder, lines):
    write(folder / "b.png", grey(2))
    write(folder / "deep" / "a.png", grey(1))
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


A, B = '{"file_name": "deep/a.png", "text": "an ünïcode owl"}', '{"file": "./b.png", "caption": "a cat", "id": 3}'


def test_a_file_of_captions_gives_captions_in_its_order(tmp_path):
    examples = open_folder(captioned(tmp_path, [B, A, "", B]))
    assert examples.fields == {"image": Field("picture", (4, 4, 1), "uint8"), "caption": Field("text", (), "str")}
    columns = in_memory(examples).source.columns
    assert columns["caption"] == ("a cat", "an ünïcode owl", "a cat")
    assert columns["image"][:, 0, 0, 0].tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([A], r"captions\.jsonl has no caption of 'b\.png'"),
        (
            [A, B, '{"file": "c.png", "caption": "a dog"}'],
            r"captions\.jsonl, line 3: file = 'c\.png'; allowed are names",
        ),
        ([A, "b.png a cat"], r"captions\.jsonl, line 2 = 'b\.png a cat'; allowed are objects {\"file\": \"a\.png\""),
        (['["b.png", "a cat"]'], "line 1 = "),
        (["[" * 100_000], "line 1 = "),
        (['{"file": "b.png"}'], "line 1 = "),
        ([], r"has no caption of 'b\.png'"),
        ([A, "[" * 100_000], r"captions\.jsonl, line 2 = '\["),
    ],
)
def test_captions_that_do_not_fit_the_pictures_are_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        open_folder(captioned(tmp_path, lines))


def test_the_identity_is_that_of_the_pictures_wherever_they_lie(tmp_path):
    here = tmp_path / "here"
    write(here / "cat" / "a.png", grey(1))
    write(here / "owl" / "b.png", grey(2))
    shutil.copytree(here, tmp_path / "there")
    # Links instead of files, which is another place for the same data.
    write(tmp_path / "linked" / "cat" / "a.png", grey(1))
    (tmp_path / "linked" / "owl").symlink_to(here / "owl")
    same = open_folder(here).identity()
    assert {open_folder(tmp_path / name).identity() for name in ("there", "linked")} == {same}
    assert in_memory(open_folder(here)).identity() == same
    found = [same, open_folder(here, size=2).identity(), open_folder(here, size=2, fit="pad").identity()]
    write(here / "owl" / "b.png", grey(3))
    found.append(open_folder(here).identity())
    os.rename(here / "owl" / "b.png", here / "owl" / "c.png")
    found.append(open_folder(here).identity())
    os.rename(here / "owl", here / "dog")
    found.append(open_folder(here).identity())
    assert len(set(found)) == len(found)
    for text in ("a cat", "a dog"):
        folder = captioned(tmp_path / "captioned", [A, B.replace("a cat", text)])
        found.append(open_folder(folder).identity())
    assert len(set(found)) == len(found)


def test_the_component_survives_json(tmp_path):
    component = Folder(tmp_path, size=8, fit="pad")
    assert component.path == str(tmp_path)
    assert from_json(Dataset, json.loads(json.dumps(to_json(component))), "data") == component


def test_folders_without_a_data_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path = '.*absent'; allowed are folders"):
        open_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"holds no pictures; allowed are .*\.png"):
        open_folder(tmp_path)
    write(tmp_path / "full" / "a.png", grey(0))
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="subfolder 'void' holds no pictures"):
        open_folder(tmp_path)
    write(tmp_path / "a.png", grey(0))
    with pytest.raises(ValueError, match=r"holds pictures \(a\.png\) and subfolders of pictures"):
        open_folder(tmp_path)
    with pytest.raises(ValueError, match="size = -3"):
        Folder(tmp_path, size=-3)
    with pytest.raises(ValueError, match="fit = 'stretch'; allowed are 'crop', 'pad'"):
        Folder(tmp_path, fit="stretch")
