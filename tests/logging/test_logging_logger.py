"""The logs of an interrupted run read like those of an uninterrupted run, and no failed write stops a run."""

import contextlib
import errno
import io
import json
import math
import os
import re
import resource
import sys
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from jaxdiff.logging.logger import Logger, SilentLogger, make_logger
from jaxdiff.logging.metrics_file import drop_after
from jaxdiff.logging.weights_and_biases import import_wandb


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


def test_metrics_are_json_lines_with_null_for_nan_and_infinity(tmp_path):
    with Logger(tmp_path, 10, stream=io.StringIO()) as logger:
        logger.log(1, {"loss": jnp.float32(0.5), "lr": np.float64(1e-3), "n": 3})
        logger.log(2, {"loss": jnp.nan, "lr": math.inf, "n": np.ones((1, 1))})
    first, second = records(tmp_path / "metrics.jsonl")
    assert (first["step"], first["loss"], first["lr"], first["n"]) == (1, 0.5, 1e-3, 3.0)
    assert (second["step"], second["loss"], second["lr"], second["n"]) == (2, None, None, 1.0)
    assert second["time"] >= first["time"] > 1.6e9


def test_resuming_drops_later_lines_and_a_torn_line(tmp_path):
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


def test_metrics_go_neither_through_a_pipe_nor_through_a_link(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="is not a regular file"):
            drop_after(tmp_path / name, 3)


def png(pixels):
    """A picture as the bytes of a file."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples/x_00000001.png"])
def test_a_link_in_a_run_directory_leads_to_no_other_file(tmp_path, name):
    run, other = tmp_path / "run", tmp_path / "other"
    (run / "samples").mkdir(parents=True)
    other.write_text("not of this run\n")
    (run / name).symlink_to(other)
    with contextlib.suppress(OSError), Logger(run, 10, 0, progress=False) as logger:
        logger.log(1, {"loss": 1.0})
        logger.media(1, {"x.png": png(np.zeros((4, 4, 3), np.uint8))})
    assert other.read_text() == "not of this run\n"


def test_tensorboard_gets_scalars_and_pictures_and_the_directory_gets_all_files(tmp_path):
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with Logger(tmp_path, 10, stream=io.StringIO()) as logger:
        logger.log(4, {"loss": 0.25, "bad": math.nan})
        logger.media(4, {"ema_grid.png": png(picture), "grey.png": png(picture[..., 0]), "sound-1.wav": b"sound"})
    samples = tmp_path / "samples"
    assert {path.name for path in samples.iterdir()} == {
        "ema_grid_00000004.png", "grey_00000004.png", "sound-1_00000004.wav"
    }  # fmt: skip
    # The files are written as they are.
    assert (samples / "ema_grid_00000004.png").read_bytes() == png(picture)
    assert (samples / "sound-1_00000004.wav").read_bytes() == b"sound"
    found = {value.tag: (event.step, value) for event in events(tmp_path) for value in event.summary.value}
    assert set(found) == {"loss", "ema_grid", "grey"}
    assert found["loss"][0] == 4
    assert found["loss"][1].simple_value == 0.25
    shown = Image.open(io.BytesIO(found["ema_grid"][1].image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(shown), picture)
    grey = found["grey"][1].image
    assert (grey.height, grey.width) == (4, 5)
    shown = Image.open(io.BytesIO(grey.encoded_image_string)).convert("L")
    np.testing.assert_array_equal(np.asarray(shown), picture[..., 0])


def test_without_a_terminal_progress_is_plain_lines_now_and_then(tmp_path):
    stream = io.StringIO()
    with Logger(tmp_path, 40, seconds=3600, stream=stream) as logger:
        for step in (10, 20, 30, 40):
            logger.log(step, {"loss": 1 / step, "images_per_second": 1234.0})
    lines = stream.getvalue().splitlines()
    # The first step is shown, and the last step however soon it comes.
    assert [line.split("  ")[:2] for line in lines] == [["step 10/40", "loss 0.1"], ["step 40/40", "loss 0.025"]]
    assert all("1234 img/s" in line and "\r" not in line for line in lines)


def test_the_time_left_follows_from_the_steps_of_this_session_without_its_compilation(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("jaxdiff.logging.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Logger(tmp_path, 1000, start_step=800, seconds=0, stream=stream) as logger:
        for now[0], step in ((140.0, 820), (160.0, 840), (170.0, 860), (170.0, 1000)):
            logger.log(step, {"images_per_second": 64.0, "mfu": 0.4123, "data_wait": 0.25 if step == 840 else 0.01})
    # 20 steps in 40 s with compilation; then 20 steps in 20 s; then 40 steps in 30 s in all.
    assert stream.getvalue().splitlines() == [
        "step 820/1000  64 img/s  41.2% MFU  0:06:00 left",
        "step 840/1000  64 img/s  41.2% MFU  25% waiting for data  0:02:40 left",
        "step 860/1000  64 img/s  41.2% MFU  0:01:45 left",
        "step 1000/1000  64 img/s  41.2% MFU  0:00:00 left",
    ]


def test_on_a_terminal_progress_is_a_bar(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Logger(tmp_path, 40, start_step=10, stream=stream) as logger:
        logger.log(40, {"loss": 0.5, "images_per_second": 77.0})
    assert "\r" in stream.getvalue()
    assert "40/40" in stream.getvalue()
    assert "loss 0.5, 77 img/s" in stream.getvalue()


@pytest.mark.parametrize("bad", [{"total_steps": 0}, {"start_step": -1}, {"seconds": -1.0}])
def test_wrong_arguments_of_a_logger_are_named(tmp_path, bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"^{name} = {value}; allowed are"):
        Logger(tmp_path, **{"total_steps": 5, **bad})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": np.ones(2)}, "values['loss'].shape = (2,); allowed are shapes with one element"),
        ({"loss": np.complex64(1)}, "values['loss'].dtype = complex64; allowed are real types"),
        ({"loss": 1.0, "step": 1.0}, "name = 'step'; allowed are names other than 'step' and 'time'"),
    ],
)
def test_a_value_that_is_no_scalar_is_refused_and_writes_nothing(tmp_path, values, message):
    with Logger(tmp_path, 5, stream=io.StringIO()) as logger, pytest.raises(ValueError, match=re.escape(message)):
        logger.log(1, values)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_the_name_of_a_file_is_no_path(tmp_path):
    words = "name of a file = 'a/b.png'; allowed are letters, digits, '_', '-' and '.'"
    with Logger(tmp_path, 5, stream=io.StringIO()) as logger, pytest.raises(ValueError, match=re.escape(words)):
        logger.media(1, {"a/b.png": png(np.zeros((2, 2, 3), np.uint8))})
    assert list((tmp_path / "samples").iterdir()) == []


def test_a_full_disk_costs_whole_records_and_one_warning_per_writer(tmp_path, capsys):
    """RLIMIT_FSIZE stops a write where a full disk would, in the middle of a record."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Logger(tmp_path, 9, stream=io.StringIO()) as logger:
        logger.log(1, {"loss": 1.0})
        size = (tmp_path / "metrics.jsonl").stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limit[1]))
            logger.log(2, {"loss": 2.0})
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
            logger.media(2, {"samples.png": png(noise)})
            logger.log(3, {"loss": 3.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        logger.log(4, {"loss": 4.0})
    warnings = sorted(re.findall(r"warning: (.*) of /", capsys.readouterr().err))
    assert warnings == ["TensorBoard's events", "metrics.jsonl", "samples"]
    assert [record["loss"] for record in records(tmp_path / "metrics.jsonl")] == [1.0, 4.0]
    assert [event.step for event in events(tmp_path) if event.summary.value] == [1, 4]
    assert list((tmp_path / "samples").iterdir()) == []


def test_a_closed_terminal_does_not_stop_a_run(tmp_path, capsys):
    class Gone(io.StringIO):
        def __init__(self, terminal):
            super().__init__()
            self.terminal, self.open = terminal, True

        def isatty(self):
            return self.terminal

        def write(self, text):
            if not self.open:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().write(text)

    for terminal in (False, True):
        stream = Gone(terminal)
        directory = tmp_path / str(terminal)
        directory.mkdir()
        with Logger(directory, 3, seconds=0, stream=stream) as logger:
            logger.log(1, {"loss": 1.0})
            stream.open = False
            logger.log(2, {"loss": 2.0})
            logger.log(3, {"loss": 3.0})
        assert [record["loss"] for record in records(directory / "metrics.jsonl")] == [1.0, 2.0, 3.0]
        # tqdm ignores the failure itself.
        assert capsys.readouterr().err.count("warning: progress of") == (0 if terminal else 1)


def test_without_standard_error_nothing_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)  # as in a program that was started with `2>&-`
    for directory in (tmp_path, None):
        with make_logger(directory, 10) as logger:
            logger.log(1, {"loss": 1.0})
    assert capsys.readouterr().out == ""
    assert [record["loss"] for record in records(tmp_path / "metrics.jsonl")] == [1.0]


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdiff.logging.logger.jax.process_index", lambda: 1)
    with make_logger(tmp_path, 5, wandb="project") as logger:
        assert isinstance(logger, SilentLogger)
        logger.log(1, {"loss": 1.0})
        logger.media(1, {"samples.png": b""})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with make_logger(tmp_path, 5) as logger:
        logger.log(1, {"loss": 1.0})
    assert len(records(tmp_path / "metrics.jsonl")) == 1


def reported(directory):
    """The identifier, settings and rows in each file of an offline run, as Weights & Biases reads them."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs = []
    for path in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        data, run = path.read_bytes(), {"rows": [], "config": {}}
        # LevelDB's log format after a header of 7 bytes: blocks of 32 KiB; each part has a CRC (4 bytes), a length (2)
        # and a kind (1).
        at, whole = 7, b""
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            if at + 7 + length > len(data):
                break  # this part is still being written
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                record, whole = Record.FromString(whole), b""
                if record.HasField("run"):
                    run |= {"id": record.run.run_id, "project": record.run.project}
                for changed in (record.run.config, record.config):
                    for item in changed.update:
                        run["config"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
                if record.HasField("history"):
                    row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                    run["rows"].append(row)
        runs.append(run)
    return runs


def test_weights_and_biases_gets_scalars_pictures_and_settings_as_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    picture = np.zeros((4, 4, 3), np.uint8)
    settings = {"train": {"steps": 40}, "data": {"name": "digits"}}
    with Logger(tmp_path, 40, stream=io.StringIO(), wandb="project", config=settings) as logger:
        logger.log(10, {"loss": 0.5, "bad": math.nan})
        logger.media(10, {"samples.png": png(picture), "samples.npy": b""})
        logger.log(20, {"loss": 0.25})
    settings["train"]["steps"] = 60
    with Logger(tmp_path, 60, 20, stream=io.StringIO(), wandb="project", config=settings) as logger:
        logger.log(30, {"loss": 0.125})
    # Weights & Biases writes in another process, which may still be writing after `finish` has returned.
    deadline = time.monotonic() + 60
    while sum(len(run["rows"]) for run in reported(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
    first, second = sorted(reported(tmp_path), key=lambda run: run["rows"][0]["_step"])
    assert first["id"] == second["id"] == (tmp_path / "wandb_id").read_text()
    assert first["project"] == "project"
    assert [(row["_step"], row["loss"]) for row in first["rows"]] == [(10, 0.5), (20, 0.25)]
    assert first["rows"][0]["samples/_type" if "samples/_type" in first["rows"][0] else "samples"]
    assert "bad" not in first["rows"][0]
    assert [(row["_step"], row["loss"]) for row in second["rows"]] == [(30, 0.125)]
    assert first["config"]["train"] == {"steps": 40}
    assert second["config"]["train"] == {"steps": 60}


class FakeWandb:
    """Replaces the package wandb where a server would have to answer."""

    class Error(Exception):
        pass

    Image = staticmethod(lambda pixels: pixels.shape)

    def __init__(self, starting_step=0, refusal=None, broken=False):
        self.starting_step, self.refusal, self.broken, self.rows = starting_step, refusal, broken, []
        self.config = types.SimpleNamespace(update=lambda *_, **__: None)

    def init(self, **arguments):
        if self.refusal:
            raise self.Error(self.refusal)
        return self

    def log(self, values, step):
        if self.broken:
            raise self.Error("the service is gone")
        self.rows.append((step, values))

    def finish(self, exit_code):
        self.exit_code = exit_code


def test_steps_that_weights_and_biases_has_already_are_not_reported_again(tmp_path, monkeypatch):
    # A run that was killed at step 30 resumes from its checkpoint at step 10. The server has the steps up to 30.
    fake = FakeWandb(starting_step=31)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with Logger(tmp_path, 50, 10, stream=io.StringIO(), wandb="project") as logger:
        for step in (20, 30, 40):
            logger.log(step, {"loss": step})
        logger.media(40, {"samples.png": png(np.zeros((2, 3), np.uint8)), "samples.wav": b""})
    assert fake.rows == [(40, {"loss": 40.0}), (40, {"samples": (2, 3, 3)})]
    assert fake.exit_code == 0
    assert [record["step"] for record in records(tmp_path / "metrics.jsonl")] == [20, 30, 40]
    with pytest.raises(KeyError), Logger(tmp_path, 50, 40, stream=io.StringIO(), wandb="project"):
        raise KeyError
    assert fake.exit_code == 1


def test_a_failure_of_weights_and_biases_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(broken=True))
    with Logger(tmp_path, 50, stream=io.StringIO(), wandb="project") as logger:
        logger.log(1, {"loss": 1.0})
        logger.log(2, {"loss": 2.0})
    assert capsys.readouterr().err == f"warning: Weights & Biases of {tmp_path}: the service is gone\n"
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(refusal="no API key"))
    with pytest.raises(ValueError, match=r"log.wandb = 'project': no API key; run `wandb login`"):
        Logger(tmp_path, 50, stream=io.StringIO(), wandb="project")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"log.wandb = 'project' .* pip install 'jaxdiff\[wandb\]'"):
        import_wandb("project")
