"""Checkpoints: one directory a step, written by Orbax in the background and renamed into place once it is whole.

    checkpoints/1000/state/         the arrays, as Orbax wrote them
    checkpoints/1000/meta.json      the step, the configuration, the data iterator's state, the table of leaves
    checkpoints/1000/manifest.json  size and CRC-32 of every file above

Orbax detects missing files and damaged indices, but hands back wrong numbers without a word when a byte of array data
has changed on disk (its Zarr chunks are stored without a checksum). Hence the manifest: the files are compared with it
before anything is restored, and a checkpoint that fails is passed over for the next older one, with a warning.

A directory whose name is a number is a finished checkpoint: what an interrupted save leaves is called `tmp.<step>` and
is removed by the next save.
"""

from __future__ import annotations

import base64
import concurrent.futures
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from jaxdiff.training import leaves, manifest
from jaxdiff.training.runs import sync_directory, write_atomically


class CheckpointError(ValueError):
    """A checkpoint could not be written, or none can be restored; one line that names the directory and the reason."""


class Restored(NamedTuple):
    """What `Checkpoints.restore` returns."""

    step: int
    state: Any
    iterator_state: Any
    config: dict[str, Any]


class _WithoutOrbax(logging.Filter):
    """Drops Orbax's log records: whatever goes wrong there reaches the caller as one CheckpointError."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


logging.getLogger("absl").addFilter(_WithoutOrbax())


class Checkpoints:
    """The checkpoints of one run: asynchronous saving, verified restoring, the last `keep` of them kept.

    A context manager; leaving it waits for the save in progress. With several processes every method but `steps` and
    `latest_step` is collective: each process calls it with the same step.

    Args:
        directory: where the checkpoints lie; made by the first save.
        keep: how many of the newest checkpoints stay on disk, at least 1.

    Raises:
        ValueError: `keep` is less than 1.
        NotADirectoryError: `directory` is something else than a directory.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: at least one checkpoint must be kept")
        self.directory = Path(directory).absolute()
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(f"directory={self.directory} is not a directory")
        self.keep = keep
        self._worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, concurrent.futures.Future[None]] | None = None
        self._broken: set[int] = set()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            # The exception under way says why the run ends; the failed save must not take its place.
            warnings.warn(str(failure), stacklevel=2)

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints on disk, ascending. Their integrity is checked by `restore` alone."""
        if not self.directory.is_dir():
            return []
        return sorted(int(entry.name) for entry in self.directory.iterdir() if re.fullmatch(r"0|[1-9]\d*", entry.name))

    def latest_step(self) -> int | None:
        """The newest of `steps()`, or None where there is no checkpoint."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Any, iterator_state: Any = None, config: Mapping[str, Any] | None = None) -> bool:
        """Starts saving and returns once the arrays may be overwritten (donated); the rest happens in the background.

        Waits for the save before it. A checkpoint that `restore` found broken is moved aside to `<step>.broken`.

        Args:
            step: number of finished training steps, 0 or more.
            state: any pytree of JAX or NumPy arrays, Python numbers and typed PRNG keys.
            iterator_state: this process's data iterator state: bytes, or anything JSON can express.
            config: the run's configuration, as JSON can express it.

        Returns:
            True if a save was started, False if a checkpoint of this step is already there.

        Raises:
            CheckpointError: the previous save failed, this one could not start, or the directory holds a newer
                checkpoint.
            TypeError: a leaf is no array or number, or `iterator_state` or `config` cannot be written as JSON.
            ValueError: `step` is negative, or two leaves have the same name.
        """
        if step < 0:
            raise ValueError(f"step={step}: must be 0 or more")
        tree, table = leaves.to_named(state)
        iterator_text = _to_json("iterator_state", _pack_iterator(iterator_state))
        config_text = _to_json("config", dict(config or {}))
        self.wait()
        temporary = self.directory / f"tmp.{step}"
        latest = self._on_first_process(lambda: self._make_room(step, temporary))
        if latest == step:
            return False
        if latest > step:
            raise CheckpointError(
                f"{self.directory}: holds a checkpoint of step {latest}, newer than step {step} that is to be saved; "
                "restore that one, or save into another directory"
            )
        meta = {
            "format": manifest.FORMAT,
            "step": step,
            "config": json.loads(config_text),
            "iterators": [json.loads(text) for text in _gather_text(iterator_text)],
            "leaves": {name: info._asdict() for name, info in table.items()},
        }
        try:
            response = ocp.save_async(temporary / "state", tree)
        except Exception as error:
            raise self._failure(step, error) from error
        self._pending = (step, self._worker.submit(self._finish, response, temporary, step, meta))
        return True

    def wait(self) -> None:
        """Returns when the save in progress, if any, is on disk.

        Raises:
            CheckpointError: it failed. Older checkpoints are unharmed, and saving may be tried again.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except Exception as error:
            raise self._failure(step, error) from error

    def close(self) -> None:
        """Waits as `wait` does, and ends the background thread; nothing can be saved afterwards."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()

    def restore(self, template: Any, step: int | None = None) -> Restored:
        """Restores the newest whole checkpoint, or that of `step`, onto the template's shapes, types and shardings.

        Args:
            template: a pytree shaped as the saved state, of arrays or `jax.ShapeDtypeStruct`s (as `jax.eval_shape`
                makes them). A leaf with a sharding is restored onto it, one without onto the default device. NumPy
                arrays and Python numbers are restored as such.
            step: the step wanted; None takes the newest whole one, warning about each broken one that is newer.

        Raises:
            CheckpointError: there is no checkpoint, none is whole, that of `step` is absent or broken, the template
                does not fit, or the iterator states are those of another number of processes.
        """
        self.wait()
        chosen, meta = self._choose(step)
        directory = self.directory / str(chosen)
        saved = leaves.read_table(meta)
        paths, structure = jax.tree_util.tree_flatten_with_path(template)
        wanted = {leaves.name_of(path): leaf for path, leaf in paths}
        _check_fit(directory, saved, wanted)
        restored = self._load(directory, {name: (saved[name], leaf) for name, leaf in wanted.items()})
        state = jax.tree_util.tree_unflatten(structure, [restored[leaves.name_of(path)] for path, _ in paths])
        return Restored(chosen, state, _own_iterator(directory, meta["iterators"]), meta["config"])

    def restore_parts(
        self, names: Sequence[str] | None = None, step: int | None = None
    ) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Restores top-level parts of the state as saved, without a template: `(step, parts, config)`.

        Containers of every kind come back as dicts with string keys (`"0"`, `"1"` for a tuple), arrays on the default
        device. Only the arrays asked for are read, after the whole checkpoint has been verified.

        Args:
            names: the top-level names wanted, such as `["params"]`; None for all.
            step: as in `restore`.

        Raises:
            CheckpointError: as `restore`, or a name is not in the checkpoint.
        """
        self.wait()
        chosen, meta = self._choose(step)
        directory = self.directory / str(chosen)
        saved = leaves.read_table(meta)
        present = sorted({name.split(".")[0] for name in saved})
        for name in names or ():
            if name not in present:
                raise CheckpointError(f"{directory}: holds no part {name!r}; there are {', '.join(present)}")
        wanted = {name: (info, None) for name, info in saved.items() if names is None or name.split(".")[0] in names}
        return chosen, leaves.nest(self._load(directory, wanted)), meta["config"]

    def _failure(self, step: int, error: BaseException) -> CheckpointError:
        return CheckpointError(f"{self.directory}: saving step {step} failed: {_one_line(error)}")

    def _make_room(self, step: int, temporary: Path) -> int:
        """Clears what interrupted saves left, and makes the directory for this one unless a newer one is there."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in self.directory.glob("tmp.*"):
            shutil.rmtree(leftover)
        for broken in self._broken:
            aside = self.directory / f"{broken}.broken"
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(self.directory / str(broken), aside)
        self._broken.clear()
        latest = max(self.steps(), default=-1)
        if latest < step:
            temporary.mkdir()
        return latest

    def _finish(self, response: Any, temporary: Path, step: int, meta: dict[str, Any]) -> None:
        """Runs in the background: waits for Orbax, writes the manifest, renames into place, drops old checkpoints."""
        response.result()
        if jax.process_index() != 0:
            return
        write_atomically(temporary / "meta.json", json.dumps(meta).encode())
        manifest.write(temporary)
        for directory in (entry for entry in temporary.rglob("*") if entry.is_dir()):
            sync_directory(directory)
        os.rename(temporary, self.directory / str(step))
        sync_directory(self.directory)
        for old in self.steps()[: -self.keep]:
            # Renamed first, so that a kill half-way through the removal leaves rubbish and not a broken checkpoint.
            os.rename(self.directory / str(old), self.directory / f"tmp.{old}")
            shutil.rmtree(self.directory / f"tmp.{old}")

    def _choose(self, step: int | None) -> tuple[int, dict[str, Any]]:
        """The step to restore, found whole by the first process, and its meta.json."""
        chosen = self._on_first_process(lambda: self._newest_whole() if step is None else self._whole(step))
        return chosen, json.loads((self.directory / str(chosen) / "meta.json").read_bytes())

    def _whole(self, step: int) -> int:
        if step not in self.steps():
            present = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"{self.directory}: has no checkpoint of step {step}; there are: {present}")
        if reason := manifest.damage(self.directory / str(step)):
            raise CheckpointError(f"{self.directory / str(step)}: is broken: {reason}")
        return step

    def _newest_whole(self) -> int:
        broken: dict[int, str] = {}
        for step in reversed(self.steps()):
            if (reason := manifest.damage(self.directory / str(step))) is None:
                for newer, why in broken.items():
                    path = self.directory / str(newer)
                    warnings.warn(f"checkpoint {path} is broken ({why}); going back to step {step}", stacklevel=7)
                self._broken.update(broken)
                return step
            broken[step] = reason
        if broken:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in broken.items())
            raise CheckpointError(f"{self.directory}: no checkpoint is whole ({reasons})")
        raise CheckpointError(f"{self.directory}: holds no checkpoint")

    def _on_first_process(self, action: Callable[[], int]) -> int:
        """Runs `action` on the first process alone and returns its result, or raises, on all of them."""
        if jax.process_count() == 1:
            return self._guarded(action)
        result, failure = -2, None
        if jax.process_index() == 0:
            try:
                result = self._guarded(action)
            except CheckpointError as error:
                failure = error
        result = int(multihost_utils.broadcast_one_to_all(np.int32(result)))
        if result == -2:
            raise failure or CheckpointError(f"{self.directory}: the first process could not use it")
        return result

    def _guarded(self, action: Callable[[], int]) -> int:
        try:
            return action()
        except OSError as error:
            raise CheckpointError(f"{self.directory}: {_one_line(error)}") from error

    def _load(self, directory: Path, wanted: dict[str, tuple[leaves.LeafInfo, Any]]) -> dict[str, Any]:
        """Reads the named leaves through Orbax; `wanted` pairs each with its template, None for "as it was saved"."""
        flat = {
            name: leaves.abstract(info, template) for name, (info, template) in wanted.items() if 0 not in info.shape
        }
        loaded: dict[str, Any] = {}
        if flat:
            context = ocp.Context()
            context.pytree_options.loading.partial_load = True
            try:
                with context:
                    tree = ocp.load(directory / "state", leaves.nest(flat))
            except Exception as error:
                raise CheckpointError(
                    f"{directory}: its files are as they were written, but Orbax cannot read them: {_one_line(error)}"
                ) from error
            loaded = {leaves.name_of(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
        return {name: leaves.to_leaf(loaded.get(name), info, template) for name, (info, template) in wanted.items()}


def _check_fit(directory: Path, saved: Mapping[str, leaves.LeafInfo], wanted: Mapping[str, Any]) -> None:
    """Raises for the first leaf in which checkpoint and template differ."""
    for name in saved:
        if name not in wanted:
            raise CheckpointError(f"{directory}: leaf {name} is in the checkpoint, but not in the template")
    for name, leaf in wanted.items():
        if name not in saved:
            raise CheckpointError(f"{directory}: leaf {name} is in the template, but not in the checkpoint")
        shape, dtype = leaves.describe(leaf)
        info = saved[name]
        if info.shape != shape:
            raise CheckpointError(
                f"{directory}: leaf {name} has shape {info.shape} in the checkpoint, {shape} in the template"
            )
        if info.dtype != dtype:
            raise CheckpointError(
                f"{directory}: leaf {name} has dtype {info.dtype} in the checkpoint, {dtype} in the template"
            )


def _pack_iterator(state: Any) -> dict[str, Any]:
    """Grain's loaders describe themselves in bytes, its datasets in a dict."""
    if isinstance(state, bytes):
        return {"bytes": base64.b64encode(state).decode()}
    return {"json": state}


def _own_iterator(directory: Path, packed: Sequence[Mapping[str, Any]]) -> Any:
    """This process's iterator state; of another number of processes it is only taken where all were the same."""
    if len(packed) == jax.process_count():
        own = packed[jax.process_index()]
    elif all(other == packed[0] for other in packed):
        own = packed[0]
    else:
        raise CheckpointError(
            f"{directory}: holds differing data iterator states of {len(packed)} processes, "
            f"which {jax.process_count()} processes cannot go on from"
        )
    return base64.b64decode(own["bytes"]) if "bytes" in own else own["json"]


def _to_json(argument: str, value: Any) -> str:
    def number(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        raise TypeError(f"{type(item).__name__} has no JSON form")

    try:
        return json.dumps(value, default=number)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument}: cannot be written as JSON: {error}") from error


def _gather_text(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(data.size)))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: data.size] = data
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
