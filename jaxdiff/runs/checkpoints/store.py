"""The checkpoints of a run: saved in the background, verified before they are restored, removed when too old."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax

from jaxdiff import checks
from jaxdiff.checks import one_line, shortened
from jaxdiff.distributed.collectives import broadcast_from_first, gather, on_all
from jaxdiff.runs.checkpoints import arrays, leaves, manifest, meta, retention, saving
from jaxdiff.runs.checkpoints.errors import CheckpointError
from jaxdiff.runs.place import directory_for_checkpoints


class Restored(NamedTuple):
    """The result of `Checkpoints.restore`.

    Attributes:
      step: the number of finished training steps.
      state: the state, with the template's structure.
      iterator_state: the data iterator's state, as JSON gives it back: tuples become lists.
      config: the run's configuration, as JSON gives it back.
    """

    step: int
    state: Any
    iterator_state: Any
    config: dict[str, Any]


class _Save(NamedTuple):
    """A save in progress."""

    step: int
    temporary: Path
    future: concurrent.futures.Future[OSError | None]


class Checkpoints:
    """The checkpoints of one run: asynchronous saves, verified restores, and removal of old checkpoints.

    Use it as a context manager: at the end of the block it waits for the save in progress. With several processes every
    method except `steps` is collective: each process calls it with the same arguments, and if it fails on one process,
    it raises on all of them. A block that ends with an exception waits for no other process, since the others may not
    know of the exception.

    Args:
      directory: the directory of the checkpoints. The first save makes it.
      keep: the number of newest checkpoints that stay on disk, at least 1.
      keep_every: checkpoints at multiples of this step stay for good; 0 for none.
      keep_best: the number of checkpoints with the lowest metric that stay; 0 for none.
      version: the versions of the code that saves, recorded in every checkpoint. The first entry is the program's own:
        restoring a checkpoint of another version of the program gives a warning.

    Raises:
      ValueError: `keep`, `keep_every` or `keep_best` is out of range, or Orbax cannot use the path `directory`.
      NotADirectoryError: `directory` is a file, or a link that leads to no directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int = 3,
        keep_every: int = 0,
        keep_best: int = 0,
        version: Mapping[str, Any] | None = None,
    ) -> None:
        checks.integer("keep", keep)
        checks.integer("keep_every", keep_every, 0)
        checks.integer("keep_best", keep_best, 0)
        self.directory = directory_for_checkpoints(directory)
        if os.path.lexists(self.directory) and not self.directory.is_dir():
            raise NotADirectoryError(f"{self.directory} is not a directory")
        self.keep, self.keep_every, self.keep_best = keep, keep_every, keep_best
        self._worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._version = {} if version is None else dict(version)
        self._pending: _Save | None = None
        self._failures: collections.deque[Path] = collections.deque(maxlen=2)  # a last save is tried twice
        self._saves = 0
        self._broken: dict[int, str] = {}
        self._metrics: dict[int, float | None] = {}

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        self._worker.shutdown()
        failure = self._pending and self._pending.future.exception()
        if self._pending and failure:
            if jax.process_count() == 1:
                self._remove(self._pending.temporary)
            # The exception says why the run ends. The failed save must not take its place.
            warnings.warn(self._failed(self._pending.step, one_line(failure)), stacklevel=2)
        self._pending = None
        self._remove_again()

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints on disk, ascending. Only restoring verifies their files."""
        return retention.steps_in(self.directory)

    def save(
        self,
        step: int,
        state: Any,
        iterator_state: Any = None,
        config: Mapping[str, Any] | None = None,
        metric: float | None = None,
    ) -> bool:
        """Starts a save, and returns as soon as the arrays may be overwritten (donated).

        The rest of the save happens in the background. If another save is in progress, this method waits for it first.
        A checkpoint that `restore` found broken is renamed to `<step>.broken`.

        Args:
          step: the number of finished training steps, at least 0.
          state: any pytree of JAX or NumPy arrays, Python numbers and typed PRNG keys. With several processes, JAX
            arrays must be global; NumPy arrays and numbers are taken from the first process.
          iterator_state: the data iterator's state, anything that JSON can express; the same on all processes.
          config: the run's configuration, as JSON can express it.
          metric: the quality of this state, the lower the better. A metric that is not finite counts as none.

        Returns:
          True if a save was started; False if a checkpoint of this step exists already.

        Raises:
          CheckpointError: the previous save failed, the directory holds a newer checkpoint, or the processes do not
            share one directory.
          TypeError: a leaf cannot be saved, or `iterator_state` or `config` cannot be written as JSON.
          ValueError: `step` is negative, two leaves have the same name, or the state is empty.
        """
        checks.integer("step", step, 0)
        flat, table = leaves.to_named(state)
        contents = meta.contents(step, table, iterator_state, config or {}, metric, self._version)
        self.wait()
        self._saves += 1
        temporary = self.directory / f"tmp.{step}.{self._saves}"
        latest = self._from_first(lambda: saving.make_room(temporary, step, self._broken))
        self._broken.clear()
        if latest == step:
            return False
        if latest > step:
            raise CheckpointError(
                f"{self.directory}: holds a checkpoint of step {latest}, which is newer than step {step}; restore that "
                "checkpoint, or save into another directory"
            )
        try:
            saving.compare(temporary, contents)
        except CheckpointError:
            self._remove(temporary)
            raise
        finish = saving.start(temporary, flat, table, contents)
        self._pending = _Save(step, temporary, self._worker.submit(self._finish, finish, step, contents["metric"]))
        return True

    def wait(self) -> None:
        """Waits until the save in progress, if any, is on disk.

        This takes as long as the disk takes, but at most Orbax's timeout of 20 minutes. After a failure on another
        process a thread of Orbax may keep waiting for that process until the timeout; end such a process by `os._exit`.
        If an older checkpoint cannot be removed afterwards, this is a warning.

        Raises:
          CheckpointError: the save failed on some process. Its files are removed, older checkpoints are unharmed, and
            saving may be tried again.
        """
        if self._pending is None:
            return
        step, temporary, future = self._pending
        failure = future.exception()
        self._pending = None
        reasons = gather("" if failure is None else one_line(failure))
        if not any(reasons):
            if (kept := future.result()) is not None:
                reason = f"step {step} is saved, but an older checkpoint cannot be removed: {one_line(kept)}"
                warnings.warn(f"{self.directory}: {reason}", stacklevel=2)
            return
        self._remove(temporary)
        causes = [reason for reason in reasons if reason not in ("", saving.ELSEWHERE)]
        raise CheckpointError(self._failed(step, causes[0] if causes else saving.ELSEWHERE)) from failure

    def close(self) -> None:
        """Waits as `wait` does, and ends the background thread. Nothing can be saved afterwards."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()
            self._remove_again()

    def restore(self, template: Any, step: int | None = None) -> Restored:
        """Restores the newest undamaged checkpoint, or that of `step`, with the template's shapes, types and shardings.

        Args:
          template: a pytree with the structure of the saved state, of arrays or `jax.ShapeDtypeStruct`s (as
            `jax.eval_shape` makes them). A leaf with a sharding is restored with that sharding, whatever sharding it
            was saved with; a leaf without one is restored onto the default device. NumPy arrays and Python numbers are
            restored as such.
          step: the step to restore. None takes the newest undamaged one, and warns of each damaged one that is newer.

        Raises:
          CheckpointError: there is no checkpoint, all are damaged, that of `step` is missing or damaged, or the
            template does not fit.
        """
        chosen, contents, saved = self._choose(step)
        state = self._fitted(self.directory / str(chosen), saved, template, "", exact=True)
        return Restored(chosen, state, contents["iterator"], contents["config"])

    def restore_part(self, path: Sequence[str], template: Any, step: int | None = None) -> tuple[int, Any]:
        """Restores one part of the state with the template's structure and shapes, and as the numbers that were saved.

        Leaves that are none of this part are not read. Nothing is allocated if the shapes differ.

        Args:
          path: the words that lead to the part, such as `["ema", "fast"]`. The files of the first part are verified.
          template: a pytree as in `restore`. The type of a floating-point leaf may be another than in the checkpoint.
          step: as in `restore`.

        Returns:
          The step and the part.

        Raises:
          CheckpointError: as in `restore`.
        """
        chosen, _, saved = self._choose(step, path[:1])
        within = leaves.joined(path) + "."
        inside = {name: info for name, info in saved.items() if name.startswith(within)}
        return chosen, self._fitted(self.directory / str(chosen), inside, template, within, exact=False)

    def restore_parts(
        self, names: Sequence[str] | None = None, step: int | None = None
    ) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Restores top-level parts of the state as they were saved, without a template.

        Only the files of these parts are read and verified: damage elsewhere in the checkpoint does no harm.

        Args:
          names: the names of the parts, such as `["params"]`; None for all.
          step: as in `restore`.

        Returns:
          `(step, parts, config)`. Containers of every kind are restored as dicts with string keys (`"0"`, `"1"` for a
          tuple), and arrays onto the default device.

        Raises:
          CheckpointError: as in `restore`; or a name is not in the checkpoint.
        """
        chosen, contents, saved = self._choose(step, names)
        directory = self.directory / str(chosen)
        present = sorted({leaves.words_of(name)[0] for name in saved})
        for name in names or ():
            if name not in present:
                raise CheckpointError(f"{directory}: has no part {name!r}; there are {', '.join(present)}")
        wanted = {
            name: (info, None) for name, info in saved.items() if names is None or leaves.words_of(name)[0] in names
        }
        return chosen, leaves.nest(self._load(directory, wanted)), contents["config"]

    def _remove(self, temporary: Path) -> None:
        """Removes the files of a failed save."""
        if jax.process_index() == 0:
            saving.remove(temporary)
            self._failures.append(temporary)

    def _remove_again(self) -> None:
        """Removes what a thread of Orbax wrote after its save had failed, as the next save would."""
        while self._failures:
            saving.remove(self._failures.pop(), patience=5)

    def _failed(self, step: int, reason: str) -> str:
        return f"{self.directory}: saving step {step} failed: {reason}"

    def _finish(self, finish: Callable[[], None], step: int, metric: float | None) -> OSError | None:
        """Runs in the background: finishes the save, and then removes old checkpoints.

        Returns:
          The reason why an old checkpoint cannot be removed; None if all could be.
        """
        finish()
        if jax.process_index() == 0:
            self._metrics[step] = metric
            try:
                retention.thin_out(self.directory, self._metrics, self.keep, self.keep_every, self.keep_best)
            except OSError as error:
                return error
        return None

    def _choose(
        self, step: int | None, parts: Sequence[str] | None = None
    ) -> tuple[int, dict[str, Any], dict[str, leaves.LeafInfo]]:
        """Chooses the step to restore, which the first process verifies; None for the newest undamaged one.

        Returns:
          The step, the contents of its `meta.json`, and the table of its leaves.
        """
        self.wait()
        chosen = self._from_first(lambda: self._newest(parts) if step is None else self._verified(step, parts))
        directory = self.directory / str(chosen)
        contents = self._on_all(lambda: meta.read(directory))
        if jax.process_index() == 0:
            for newer, reason in self._broken.items():
                if step is None:
                    path = self.directory / str(newer)
                    warnings.warn(f"checkpoint {path} is broken ({reason}); going back to step {chosen}", stacklevel=3)
            program, running = next(iter(self._version.items()), ("", None))
            writer = contents["version"].get(program)
            if writer != running:
                written = f"{program} {shortened(str(writer), 40)}"
                message = f"checkpoint {directory} was written by {written}; this is {running}"
                warnings.warn(message, stacklevel=3)
        return chosen, contents, leaves.read_table(contents)

    def _damage(self, step: int, parts: Sequence[str] | None) -> str | None:
        """Says what is wrong with the files that restoring these parts reads; None if nothing is."""

        def needed(file: str) -> bool:
            folder, _, inside = file.partition("/")
            return folder != "state" or arrays.is_read_for(parts, inside)

        directory = self.directory / str(step)
        if reason := manifest.damage(directory, needed):
            return reason
        try:
            table = leaves.read_table(meta.read(directory))
        except ValueError as error:
            return f"meta.json: {error}"
        wanted = {n: info for n, info in table.items() if parts is None or leaves.words_of(n)[0] in parts}
        return arrays.lacking(directory / "state", wanted)

    def _verified(self, step: int, parts: Sequence[str] | None) -> int:
        if not isinstance(step, Integral) or isinstance(step, bool) or step not in self.steps():
            present = ", ".join(map(str, self.steps())) or "none"
            shown = repr(step) if isinstance(step, str) else step
            raise CheckpointError(f"{self.directory}: has no checkpoint of step {shown}; there are: {present}")
        if reason := self._damage(step, parts):
            raise CheckpointError(f"{self.directory / str(step)}: is broken: {shortened(reason)}")
        return step

    def _newest(self, parts: Sequence[str] | None) -> int:
        broken: dict[int, str] = {}
        for step in reversed(self.steps()):
            if (reason := self._damage(step, parts)) is None:
                self._broken = broken
                return step
            broken[step] = shortened(reason)
        if broken:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in broken.items())
            raise CheckpointError(f"{self.directory}: all checkpoints are broken ({reasons})")
        raise CheckpointError(f"{self.directory}: has no checkpoint")

    def _from_first(self, action: Callable[[], int]) -> int:
        return broadcast_from_first(lambda: self._guarded(action), CheckpointError)

    def _on_all(self, action: Callable[[], Any]) -> Any:
        return on_all(lambda: self._guarded(action), CheckpointError)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            raise CheckpointError(f"{self.directory}: {one_line(error)}") from error

    def _fitted(
        self, directory: Path, saved: Mapping[str, leaves.LeafInfo], template: Any, within: str, *, exact: bool
    ) -> Any:
        """Loads the leaves `saved` with the structure of the template, whose leaves have names that follow `within`."""
        paths, structure = jax.tree_util.tree_flatten_with_path(template)
        wanted = {within + leaves.leaf_name(path): leaf for path, leaf in paths}
        if reason := leaves.misfit(saved, wanted, exact):
            raise CheckpointError(f"{directory}: {reason}")
        restored = self._load(directory, {name: (saved[name], leaf) for name, leaf in wanted.items()})
        return jax.tree_util.tree_unflatten(structure, [restored[name] for name in wanted])

    def _load(self, directory: Path, wanted: dict[str, tuple[leaves.LeafInfo, Any]]) -> dict[str, Any]:
        def load() -> dict[str, Any]:
            try:
                return arrays.load(directory / "state", wanted)
            except Exception as error:
                raise CheckpointError(
                    f"{directory}: its files are undamaged, but Orbax cannot read them: {one_line(error)}"
                ) from error

        return self._on_all(load)
