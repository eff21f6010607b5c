"""Run directories: errors come before work, files are never half written, and one trainer works at a time."""

import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from run_settings import TOY

from jaxdiff.codecs import Latents
from jaxdiff.data import Folder, Tfds
from jaxdiff.files import write_atomically, write_output
from jaxdiff.runs.directory import (
    RunError,
    create_run,
    lock_run,
    open_run,
    read_config,
    require_in_place,
    write_config,
)
from jaxdiff.runs.parts import Parts

CONFIG = {"data": {"name": "digits"}, "lr": 1e-3, "widths": [1, 2], "nothing": None, "é": True}


def test_config_round_trip_and_layout(tmp_path):
    run = create_run(tmp_path / "deep" / "run")
    assert run.checkpoints.is_dir()
    assert run.samples.is_dir()
    with pytest.raises(RunError, match=r"holds no config\.json"):
        open_run(run.directory)
    write_config(run, {"old": 1})
    write_config(run, CONFIG)
    assert read_config(open_run(tmp_path / "deep" / "run")) == CONFIG
    assert create_run(run.directory) == run
    assert read_config(run) == CONFIG
    assert sorted(entry.name for entry in run.directory.iterdir()) == ["checkpoints", "config.json", "samples"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b'{\n "a": 1,\n oops\n}\n', r"config\.json, line 3, column 2"),
        (b"", r"config\.json, line 1"),
        (b"[1]", r"config\.json: holds a JSON list, not an object"),
        (b'{"a": "\xff"}', r"config\.json: is not UTF-8"),
    ],
)
def test_an_unreadable_config_is_refused_with_its_line(tmp_path, contents, message):
    run = create_run(tmp_path)
    run.config.write_bytes(contents)
    with pytest.raises(RunError, match=message) as error:
        read_config(run)
    assert "\n" not in str(error.value)


def test_missing_and_unusable_places_are_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("precious")
    # /proc takes no new directories even from root, whom permission bits do not stop.
    for place in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(RunError, match="run directory") as error:
            create_run(place)
        assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(RunError, match="no such directory"):
        open_run(tmp_path / "none")
    with pytest.raises(RunError, match=r"config\.json: No such file"):
        read_config(create_run(tmp_path / "run"))


def test_a_link_that_leads_nowhere_is_no_file(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    for use, place in ((create_run, "dangling"), (create_run, "dangling/run"), (open_run, "dangling")):
        with pytest.raises(RunError, match="dangling is a link to nowhere, which does not exist"):
            use(tmp_path / place)


def test_a_full_disk_is_noticed_before_training(tmp_path):
    """A limit on the size of files replaces a full disk, which takes files without contents."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(RunError, match=r"run directory .*: cannot be written to: File too large"):
            create_run(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_deleted_working_directory_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(RunError, match="run directory 'some/run': the working directory has been deleted"):
        create_run("some/run")


@pytest.mark.parametrize("name", ["lr=[1e-3]", "a*b", "a?b", "a\\b", os.fsdecode(b"a\xffb"), "gs://bucket"])
def test_a_path_that_orbax_misreads_is_refused_before_anything_is_made(tmp_path, name):
    for use in (create_run, open_run):
        with pytest.raises(RunError, match=r"run directory = .*; allowed are local paths .* a link may lead"):
            use(tmp_path / name / "run")
    assert not list(tmp_path.iterdir())


def test_a_config_that_json_cannot_hold_leaves_the_old_one(tmp_path):
    run = create_run(tmp_path)
    write_config(run, CONFIG)
    with pytest.raises(TypeError, match="config"):
        write_config(run, {"f": print})
    with pytest.raises(ValueError, match="config"):
        write_config(run, {"lr": float("nan")})
    assert read_config(run) == CONFIG


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def refuse(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match=r"No space left on device: .*file"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_output_follows_links_and_goes_through_a_fifo(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old")
    write_output(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "old").read_bytes() == b"new"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="No such device"):  # nobody reads
        write_output(fifo, b"lost")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write_output(fifo, b"through")
    assert os.read(reader, 10) == b"through"
    assert fifo.is_fifo()
    os.close(reader)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Tfds("mnist", data_dir="~nosuch/x").open(), r"data_dir = '~nosuch/x'; allowed are paths without ~"),
        (lambda: Tfds("mnist").open(), r"data_dir = '~/tensorflow_datasets'; allowed are paths without ~"),
        (lambda: Folder("~nosuch/x").open(), r"path = '~nosuch/x'; allowed are paths without ~"),
        (
            lambda: Parts(replace(TOY, model=replace(TOY.model, codec=Latents("~nosuch"))), load=str),
            r"model\.codec\.run = '~nosuch'; allowed are paths without ~",
        ),
    ],
)
def test_a_home_that_is_not_known_is_one_line(monkeypatch, use, message):
    """As of a user who does not exist, and in a container whose user has neither an entry nor $HOME."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises(ValueError, match=message):
        use()


HOLDER = """
import sys, os, time
from jaxdiff.runs.directory import create_run, lock_run
with lock_run(create_run(sys.argv[1])):
    if os.fork() == 0:
        print("held", flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


def test_the_lock_keeps_other_trainers_away_until_its_holder_is_killed(tmp_path):
    """The holder has a forked child, such as a data worker, that outlives it. The child must not keep the lock."""
    run = create_run(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunError, match=f"process {holder.pid} on .* is training it"), lock_run(run):
                pass
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with lock_run(run), pytest.raises(RunError, match=f"process {os.getpid()} on"), lock_run(run):
                pass
            with lock_run(run):
                pass
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_lock_that_is_a_link_leaves_the_file_that_it_leads_to(tmp_path):
    run = create_run(tmp_path / "run")
    (tmp_path / "precious").write_text("contents")
    (run.directory / "trainer.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"trainer\.lock: is a link"), lock_run(run):
        pass
    assert (tmp_path / "precious").read_text() == "contents"


def test_a_run_that_another_trainer_took_over_is_not_in_place(tmp_path):
    run = create_run(tmp_path)
    write_config(run, CONFIG)
    with lock_run(run):
        require_in_place(run)
        (tmp_path / "trainer.lock").write_text("process 1 on another host")
        with pytest.raises(RunError, match="was moved, deleted or taken over"):
            require_in_place(run)
