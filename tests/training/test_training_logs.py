"""The log of a run that was interrupted reads as that of one that was not."""

import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from jaxdiff.training.logs import Logger, drop_after


def records(path):
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def events(directory):
    """Reads event files as TensorBoard's format defines them: length (8 bytes), crc (4), payload, crc (4)."""
    for path in sorted(directory.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_metrics_are_json_lines_with_null_for_what_is_not_finite(tmp_path):
    with Logger(tmp_path, 10, stream=io.StringIO()) as logger:
        logger.log(1, {"loss": jnp.float32(0.5), "lr": np.float64(1e-3), "n": 3})
        logger.log(2, {"loss": jnp.nan, "lr": math.inf, "n": np.ones((1, 1))})
    first, second = records(tmp_path / "metrics.jsonl")
    assert (first["step"], first["loss"], first["lr"], first["n"]) == (1, 0.5, 1e-3, 3.0)
    assert (second["step"], second["loss"], second["lr"], second["n"]) == (2, None, None, 1.0)
    assert second["time"] >= first["time"] > 1.6e9


def test_resuming_drops_what_lies_beyond_the_step_and_a_torn_line(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    with Logger(tmp_path, 50, stream=io.StringIO()) as logger:
        for step in (10, 20, 30, 40):
            logger.log(step, {"loss": step})
    with open(metrics, "a") as file:
        file.write('{"step": 4')
    with Logger(tmp_path, 50, start_step=20, stream=io.StringIO()) as logger:
        for step in (30, 40, 50):
            logger.log(step, {"loss": -step})
    assert [(record["step"], record["loss"]) for record in records(metrics)] == [
        (10, 10), (20, 20), (30, -30), (40, -40), (50, -50),
    ]  # fmt: skip
    purges = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert 21 in purges


@pytest.mark.parametrize("torn", ['{"step": 20', '{"step": 20, "loss": 1}', "\0\0\0", '{"loss": 1}\n', "[1]\n", "7\n"])
def test_no_torn_line_survives(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n' + torn)
    drop_after(path, 30)
    assert path.read_text() == '{"step": 10}\n'


def test_dropping_leaves_an_intact_file_untouched(tmp_path):
    path = tmp_path / "metrics.jsonl"
    drop_after(path, 3)
    assert not path.exists()
    path.write_text('{"step": 10}\n')
    before = path.stat().st_ino
    drop_after(path, 10)
    assert path.stat().st_ino == before


def test_tensorboard_gets_scalars_and_images(tmp_path):
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with Logger(tmp_path, 10, stream=io.StringIO()) as logger:
        logger.log(4, {"loss": 0.25, "bad": math.nan})
        path = logger.image(4, "ema_grid", picture)
        logger.image(4, "grey", picture[..., :1])
    assert path == tmp_path / "samples" / "ema_grid_00000004.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
    found = {value.tag: (event.step, value) for event in events(tmp_path) for value in event.summary.value}
    assert set(found) == {"loss", "ema_grid", "grey"}
    assert found["loss"][0] == 4
    assert found["loss"][1].simple_value == 0.25
    shown = Image.open(io.BytesIO(found["ema_grid"][1].image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(shown), picture)


def test_without_a_terminal_there_are_plain_lines_now_and_then(tmp_path):
    stream = io.StringIO()
    with Logger(tmp_path, 40, batch_size=8, seconds=3600, stream=stream) as logger:
        for step in (10, 20, 30, 40):
            logger.log(step, {"loss": 1 / step})
    lines = stream.getvalue().splitlines()
    # The first, and the last however soon it comes.
    assert [line.split("  ")[:2] for line in lines] == [["step 10/40", "loss 0.1"], ["step 40/40", "loss 0.025"]]
    assert all("img/s" in line and "\r" not in line for line in lines)


def test_the_rate_and_the_time_left(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("jaxdiff.training.logs.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Logger(tmp_path, 1000, start_step=100, batch_size=32, seconds=0, stream=stream) as logger:
        now[0] = 110.0
        logger.log(200, {})
    assert stream.getvalue() == "step 200/1000  320 img/s  0:01:20 left\n"


def test_on_a_terminal_there_is_a_bar(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Logger(tmp_path, 40, start_step=10, stream=stream) as logger:
        logger.log(40, {"loss": 0.5})
    assert "\r" in stream.getvalue()
    assert "40/40" in stream.getvalue()
    assert "loss=0.5" in stream.getvalue()


def test_wrong_arguments_are_named(tmp_path):
    for bad in ({"total_steps": 0}, {"start_step": -1}, {"batch_size": 0}, {"seconds": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Logger(tmp_path, **{"total_steps": 5, **bad})
    with Logger(tmp_path, 5, stream=io.StringIO()) as logger:
        with pytest.raises(ValueError, match=r"values\['loss'\]: shape \(2,\)"):
            logger.log(1, {"loss": np.ones(2)})
        with pytest.raises(ValueError, match="'step' is taken"):
            logger.log(1, {"step": 1.0})
        with pytest.raises(ValueError, match=r"name='a/b'"):
            logger.image(1, "a/b", np.zeros((2, 2, 3), np.uint8))
    assert (tmp_path / "metrics.jsonl").read_text() == ""
