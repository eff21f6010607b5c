"""The checkpoints of a run: saved in the background, verified when restored, thinned out."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax

from jaxdiff.distributed.collectives import broadcast_from_first, gather, on_all, one_line
from jaxdiff.runs.checkpoints import arrays, leaves, manifest, meta, retention, saving
from jaxdiff.runs.checkpoints.errors import CheckpointError


class Restored(NamedTuple):
    """What `Checkpoints.restore` returns."""

    step: int
    state: Any
    iterator_state: Any
    config: dict[str, Any]


class _Save(NamedTuple):
    """A save in progress."""

    step: int
    temporary: Path
    future: concurrent.futures.Future[None]


class Checkpoints:
    """The checkpoints of one run: asynchronous saving, verified restoring, and the choice of those that stay.

    A context manager; leaving it waits for the save in progress. With several processes every method but `steps` is
    collective: each process calls it with the same arguments, and if it fails on one it raises on all. Only a block
    left by an exception waits for no one else: the other processes may know nothing of it.

    Args:
        directory: where the checkpoints lie; made by the first save.
        keep: how many of the newest checkpoints stay on disk, at least 1.
        keep_every: those of every so many steps stay too, for good; 0 for none.
        keep_best: as many with the lowest metric stay too; 0 for none.
        version: the versions of the code that saves, which every checkpoint records. The first entry is the program's
            own: restoring a checkpoint that another version of it wrote gives a warning.

    Raises:
        ValueError: `keep` is less than 1, or one of the others less than 0.
        NotADirectoryError: `directory` is something else than a directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int = 3,
        keep_every: int = 0,
        keep_best: int = 0,
        version: Mapping[str, Any] | None = None,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}: at least one checkpoint must be kept")
        for name, value in (("keep_every", keep_every), ("keep_best", keep_best)):
            if value < 0:
                raise ValueError(f"{name}={value}: must be 0 or more")
        self.directory = Path(directory).absolute()
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(f"directory={self.directory} is not a directory")
        self.keep, self.keep_every, self.keep_best = keep, keep_every, keep_best
        self._worker = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._version = {} if version is None else dict(version)
        self._pending: _Save | None = None
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
                shutil.rmtree(self._pending.temporary, ignore_errors=True)
            # The exception under way says why the run ends; the failed save must not take its place.
            warnings.warn(self._failed(self._pending.step, one_line(failure)), stacklevel=2)
        self._pending = None

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints on disk, ascending. Their integrity is checked by `restore` alone."""
        return retention.steps_in(self.directory)

    def save(
        self,
        step: int,
        state: Any,
        iterator_state: Any = None,
        config: Mapping[str, Any] | None = None,
        metric: float | None = None,
    ) -> bool:
        """Starts saving and returns once the arrays may be overwritten (donated); the rest happens in the background.

        Waits for the save before it. A checkpoint that `restore` found broken is moved aside to `<step>.broken`.

        Args:
            step: number of finished training steps, 0 or more.
            state: any pytree of JAX or NumPy arrays, Python numbers and typed PRNG keys. Of several processes, JAX
                arrays must be global; what is not is taken from the first process.
            iterator_state: the data iterator's state, the same on all processes: bytes, or anything JSON can express.
            config: the run's configuration, as JSON can express it.
            metric: how good this state is, the lower the better; one that is not finite counts as none.

        Returns:
            True if a save was started, False if a checkpoint of this step is already there.

        Raises:
            CheckpointError: the previous save failed, the directory holds a newer checkpoint, or it is not the same
                for all processes.
            TypeError: a leaf is no array or number, or `iterator_state` or `config` cannot be written as JSON.
            ValueError: `step` is negative, or two leaves have the same name.
        """
        if step < 0:
            raise ValueError(f"step={step}: must be 0 or more")
        tree, table = leaves.to_named(state)
        described = meta.describe(step, table, iterator_state, config or {}, metric, self._version)
        self.wait()
        self._saves += 1
        temporary = self.directory / f"tmp.{step}.{self._saves}"
        latest = self._on_first(lambda: saving.make_room(temporary, step, self._broken))
        self._broken.clear()
        if latest == step:
            return False
        if latest > step:
            raise CheckpointError(
                f"{self.directory}: holds a checkpoint of step {latest}, newer than step {step} that is to be saved; "
                "restore that one, or save into another directory"
            )
        saving.compare(temporary, described)
        finish = saving.start(temporary, tree, described)
        self._pending = _Save(step, temporary, self._worker.submit(self._finish, finish, step, described["metric"]))
        return True

    def wait(self) -> None:
        """Returns when the save in progress, if any, is on disk.

        Waits as long as the disk takes, but no longer than Orbax's timeout of 20 minutes. A save that failed on another
        process may leave a thread of Orbax waiting for that process until then; leave such a process by `os._exit`.

        Raises:
            CheckpointError: it failed, on whichever process. Older checkpoints are unharmed, what was written of this
                one is removed, and saving may be tried again.
        """
        if self._pending is None:
            return
        step, temporary, future = self._pending
        failure = future.exception()
        self._pending = None
        reasons = gather("" if failure is None else one_line(failure))
        if not any(reasons):
            return
        if jax.process_index() == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        causes = [reason for reason in reasons if reason not in ("", saving.ELSEWHERE)]
        raise CheckpointError(self._failed(step, causes[0] if causes else saving.ELSEWHERE)) from failure

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
                makes them). A leaf with a sharding is restored onto it, whatever it was saved from, one without onto
                the default device. NumPy arrays and Python numbers are restored as such.
            step: the step wanted; None takes the newest whole one, warning about each broken one that is newer.

        Raises:
            CheckpointError: there is no checkpoint, none is whole, that of `step` is absent or broken, or the template
                does not fit.
        """
        chosen, described, saved = self._choose(step)
        directory = self.directory / str(chosen)
        paths, structure = jax.tree_util.tree_flatten_with_path(template)
        wanted = {leaves.leaf_name(path): leaf for path, leaf in paths}
        if reason := leaves.misfit(saved, wanted):
            raise CheckpointError(f"{directory}: {reason}")
        restored = self._load(directory, {name: (saved[name], leaf) for name, leaf in wanted.items()})
        state = jax.tree_util.tree_unflatten(structure, [restored[leaves.leaf_name(path)] for path, _ in paths])
        return Restored(chosen, state, meta.iterator_state(described), described["config"])

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
        chosen, described, saved = self._choose(step)
        directory = self.directory / str(chosen)
        present = sorted({leaves.words_of(name)[0] for name in saved})
        for name in names or ():
            if name not in present:
                raise CheckpointError(f"{directory}: holds no part {name!r}; there are {', '.join(present)}")
        wanted = {
            name: (info, None) for name, info in saved.items() if names is None or leaves.words_of(name)[0] in names
        }
        return chosen, leaves.nest(self._load(directory, wanted)), described["config"]

    def _failed(self, step: int, reason: str) -> str:
        return f"{self.directory}: saving step {step} failed: {reason}"

    def _finish(self, finish: Callable[[], None], step: int, metric: float | None) -> None:
        """Runs in the background: the rest of the save, and then the removal of what need not stay."""
        finish()
        if jax.process_index() == 0:
            self._metrics[step] = metric
            retention.thin_out(self.directory, self._metrics, self.keep, self.keep_every, self.keep_best)

    def _choose(self, step: int | None) -> tuple[int, dict[str, Any], dict[str, leaves.LeafInfo]]:
        """The step to restore, found whole by the first process; its meta.json, and the table of leaves in there."""
        self.wait()
        chosen = self._on_first(lambda: self._newest_whole() if step is None else self._whole(step))
        directory = self.directory / str(chosen)
        described = self._together(lambda: meta.read(directory))
        if jax.process_index() == 0:
            for newer, reason in self._broken.items():
                if step is None:
                    path = self.directory / str(newer)
                    warnings.warn(f"checkpoint {path} is broken ({reason}); going back to step {chosen}", stacklevel=3)
            program, running = next(iter(self._version.items()), ("", None))
            writer = described["version"].get(program)
            if writer != running:
                message = f"checkpoint {directory} was written by {program} {writer}; this is {running}"
                warnings.warn(message, stacklevel=3)
        return chosen, described, leaves.read_table(described)

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
                self._broken = broken
                return step
            broken[step] = reason
        if broken:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in broken.items())
            raise CheckpointError(f"{self.directory}: no checkpoint is whole ({reasons})")
        raise CheckpointError(f"{self.directory}: holds no checkpoint")

    def _on_first(self, action: Callable[[], int]) -> int:
        return broadcast_from_first(lambda: self._guarded(action), CheckpointError)

    def _together(self, action: Callable[[], Any]) -> Any:
        return on_all(lambda: self._guarded(action), CheckpointError)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            raise CheckpointError(f"{self.directory}: {one_line(error)}") from error

    def _load(self, directory: Path, wanted: dict[str, tuple[leaves.LeafInfo, Any]]) -> dict[str, Any]:
        def load() -> dict[str, Any]:
            try:
                return arrays.load(directory / "state", wanted)
            except Exception as error:
                raise CheckpointError(
                    f"{directory}: its files are as they were written, but Orbax cannot read them: {one_line(error)}"
                ) from error

        return self._together(load)
