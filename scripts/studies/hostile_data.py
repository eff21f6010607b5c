"""Bad files of data: pictures, TFDS sets and arrays."""

import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from hostile_changes import CANARY, DEEP, Case, changed_bytes, changed_json, odd_value, places, replaced, short
from PIL import Image


def write_data(made: Path) -> None:
    """Writes real files of data: pictures of every format, a TFDS set, and arrays."""
    pictures = made / "pictures"
    pictures.mkdir()
    for i, suffix in enumerate(("png", "webp", "gif", "bmp", "tif", "ppm")):
        picture(i).save(pictures / f"{i}.{suffix}")
    picture(6).save(pictures / "6.jpg", exif=oriented(6))
    Tiny(data_dir=made / "tfds", file_format="array_record").download_and_prepare()
    np.savez(made / "arrays.npz", a=np.arange(12.0).reshape(3, 4), b=np.arange(5), c=np.array(["x", "y"]))


def picture(i: int) -> Image.Image:
    """A picture of 8x8 random pixels."""
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8))


def oriented(value: Any) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


class Tiny(tfds.core.GeneratorBasedBuilder):
    """A data set of 5 pictures with labels and texts."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None

    def _info(self) -> Any:
        kinds = tfds.features
        features = {"image": kinds.Image(shape=(8, 8, 3)), "label": kinds.ClassLabel(names=["a", "b"])}
        features["caption"] = kinds.Text()
        return tfds.core.DatasetInfo(builder=self, features=kinds.FeaturesDict(features), disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:
        for i in range(5):
            file = io.BytesIO()
            picture(i).save(file, "png")
            # TFDS encodes arrays with TensorFlow, which is not there.
            yield i, {"image": io.BytesIO(file.getvalue()), "label": i % 2, "caption": f"number {i}"}


def _linked(made: Path) -> list[Path]:
    """What links lead to: links in a directory of data are the user's own, and are followed."""
    return [made / "canary" / "secret"]


def png(width: int, height: int, kind: bytes = b"\x08\x02\0\0\0") -> bytes:
    """A PNG file with any size in its header, and few pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">II", width, height) + kind
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


# Files whose contents are another format than their name says. Pillow hands EPS to Ghostscript.
FOREIGN = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) print\nshowpage\n%%EOF\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><image href="file:///etc/passwd"/></svg>',
    "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n",
    "ZIP": b"PK\x05\x06" + bytes(18),
    "HTML": b"<html><body>404</body></html>",
    "XPM": b'/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #000000", "a"};\n',
    "pickle": pickle.dumps([1, 2]),
}


def pictures(rng: random.Random, made: Path, own: Path) -> Case:
    """A folder of pictures with one that is broken, a bomb, of another format, or no regular file."""
    folder = Path(shutil.copytree(made / "pictures", own / "pictures"))
    chosen = rng.choice(sorted(folder.iterdir()))
    size = rng.choice([0, 1, 2**31 - 1, 20_000, 60_000])
    how = rng.choice(["bytes", "bytes", "bytes", "bomb", "exif", "foreign", "replaced", "name", "captions", "captions"])
    if how == "bytes":
        data, says = changed_bytes(rng, chosen.read_bytes())
        chosen.write_bytes(data)
    elif how == "bomb":
        bombs = {"png": png(size, size), "ppm": b"P6 %d %d 255\n123" % (size, size), "bmp": _bmp(size)}
        bombs["gif"] = b"GIF89a" + struct.pack("<HH", size % 65536, size % 65536) + b"\0\0\0;"
        suffix = rng.choice(list(bombs))
        chosen = folder / f"bomb.{suffix}"
        chosen.write_bytes(bombs[suffix])
        says = f"says that it has {size}x{size} pixels"
    elif how == "exif":
        value = rng.choice(["5", "six", 0, 9, 2**31, b"\xff\xff", (1, 2), 2.5])
        chosen = folder / "exif.jpg"
        try:
            exif = oriented(value).tobytes()
        except Exception:  # Pillow does not write this value, so that the number becomes text
            exif = oriented(6).tobytes().replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02")
        picture(0).save(chosen, exif=exif)
        says = f"has the orientation {value!r}"
    elif how == "foreign":
        kind = rng.choice(list(FOREIGN))
        chosen.write_bytes(FOREIGN[kind])
        says = f"holds {kind}"
    elif how == "replaced":
        says = replaced(rng, chosen, made / "canary")
    elif how == "name":
        name = rng.choice(
            [b"a\nb.png", b"\xff\xfe.png", b"--help.png", b"*.png", b"-.png", b"\x1b[31m.png", b"a" * 250 + b".png"]
        )
        odd = Path(os.fsdecode(name))
        chosen = chosen.rename(folder / odd)
        chosen.write_bytes(rng.choice([chosen.read_bytes(), b"", b"x"]))
        says = f"{name!r} with {chosen.stat().st_size} bytes"
    else:
        names = sorted(path.name for path in folder.iterdir())
        lines = [json.dumps({"file": name, "caption": "a cat"}) for name in names]
        other = rng.choice(
            ["../../canary/secret", "/etc/passwd", "", ".", "..", names[0] + "/", None, 3, "\0", "a" * 5000]
        )
        line = rng.choice(
            [json.dumps({"file": other, "caption": "a"}), "[" * DEEP, "{}", "null", "1e999", json.dumps(odd_value(rng))]
        )
        lines[rng.randrange(len(lines))] = line
        chosen = folder / "captions.jsonl"
        chosen.write_text("\n".join(lines))
        says = f"has a line {short(line)}"
    words = ["read", "--data.kind", "Folder", "--data.path", str(folder), *rng.choice([[], ["--data.size", "8"]])]
    return Case(words, f"{chosen.name!r} {says}", [chosen.name, str(folder), "'image'"], named=_linked(made))


def _bmp(size: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, min(size, 2**31 - 1), min(size, 2**31 - 1), 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header + b"\0" * 12


def tfds_sets(rng: random.Random, made: Path, own: Path) -> Case:
    """A TFDS directory with a changed file: classes of features elsewhere, broken records, links."""
    root = Path(shutil.copytree(made / "tfds", own / "tfds"))
    folder = root / "tiny" / "1.0.0"
    features = folder / "features.json"
    chosen = rng.choice([features, features, *sorted(path for path in folder.iterdir() if path.is_file())])
    how = rng.choice(["code", "json", "json", "bytes", "bytes", "replaced", "labels"])
    if how == "code":
        tree = json.loads(features.read_text())
        found = [path for path in places(tree) if path[-1] == "pythonClassName"]
        if rng.random() < 0.5:
            tree = {"type": "x", "pythonClassName": f"{CANARY}.Image", "content": tree}
        else:
            path, parent = rng.choice(found), tree
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = rng.choice(
                [f"{CANARY}.Image", "os.system", "builtins.eval", "", "..", "tensorflow_datasets.core.features.nosuch"]
            )
        features.write_text(json.dumps(tree))
        chosen, says = features, f"names classes elsewhere: {short(tree)}"
    elif how == "labels":
        chosen = folder / "label.labels.txt"
        chosen.write_text(rng.choice(["", "a\n", "a\na\n", "a\n" * 100_000, "\0\n"]))
        says = f"holds {short(chosen.read_text())}"
    elif how == "replaced":
        says = replaced(rng, chosen, made / "canary")
    elif chosen.suffix == ".json" and how == "json":
        says = changed_json(rng, chosen)
    else:
        data, says = changed_bytes(rng, chosen.read_bytes())
        chosen.write_bytes(data)
    line = ["read", "--data.kind", "Tfds", "--data.name", "tiny", "--data.data-dir", str(root)]
    return Case(line, f"{chosen.name}: {says}", ["tiny", str(root), "fields."], named=_linked(made))


class _Payload:
    """An object whose pickle runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (str(self.mark), "w")


def arrays(rng: random.Random, made: Path, own: Path) -> Case:
    """A file of arrays: broken, with pickles, or with shapes and types of its header that its data do not have."""
    own.mkdir(parents=True, exist_ok=True)
    path = own / "arrays.npz"
    data = (made / "arrays.npz").read_bytes()
    how = rng.choice(["bytes", "bytes", "header", "header", "pickle", "names", "replaced"])
    if how == "bytes":
        data, says = changed_bytes(rng, data)
        path.write_bytes(data)
    elif how == "header":
        size = rng.choice([-1, 0, 10**6, 10**12, 10**30])
        shape = rng.choice([(size,), (size, size), None, "x", (1.5,), (2,) * 100])
        described = rng.choice(
            ["<f8", "|O", "<f9", "", None, 3, [("a", "<f8")], [("a", "|O")], f"__import__('{CANARY}')"]
        )
        header = repr({"descr": described, "fortran_order": rng.choice([False, True, 3]), "shape": shape})
        header = rng.choice([header, header, f"__import__('{CANARY}')", "{" * 1000, "[" * DEEP, ""])
        text = header.encode().ljust(118) + b"\n"
        version = rng.choice([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"])
        length = struct.pack("<H", len(text) % 65536) if version[0] == 1 else struct.pack("<I", len(text))
        says = f"has the header {short(header)}"
        with zipfile.ZipFile(path, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as file:
            file.writestr("a.npy", b"\x93NUMPY" + version + length + text + bytes(rng.choice([0, 100, 10_000_000])))
    elif how == "pickle":
        payload = np.array([_Payload(made / "canary" / "executed")], object)
        if rng.random() < 0.5:
            np.savez(path, a=payload)
        else:
            path.write_bytes(pickle.dumps(payload))
        says = "holds a pickle"
    elif how == "names":
        says = "holds odd names"
        with zipfile.ZipFile(path, "w") as file:
            for name in rng.sample(["../../out.npy", "/tmp/x.npy", "a", ".npy", "a.npy", "b\nc.npy"], 3):
                file.writestr(name, rng.choice([b"", b"x", b"\x93NUMPY"]))
    else:
        path.write_bytes(data)
        says = replaced(rng, path, made / "canary")
    line = ["train", "digits", "--model.codec.kind", "Latents", "--model.codec.run", str(path), "--run-dir", "run"]
    return Case(line, f"arrays.npz {says}", ["arrays.npz", "model.codec.run"], named=_linked(made), refused=True)
