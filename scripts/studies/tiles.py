"""Large photographs by a model of small ones, in blended tiles: `python scripts/studies/tiles.py RUN --data-dir DIR`.

DIR is a TFDS directory that holds `kodak`. Each photograph is reduced and enlarged again by the model, in overlapping
tiles that are blended at every step, as `jaxdiff restore --task sr` does. For comparison each tile is restored alone.
The table has the PSNR in dB, and the seams: the mean difference of neighbouring pixels across the borders of tiles,
divided by that inside of tiles, with the photograph's own. The last lines have the peak of the memory of the process
after a small and after all large photographs.
"""

import dataclasses
import resource
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from skimage import metrics

import jaxdiff as jd
from jaxdiff import data, solvers, tiles
from jaxdiff.checks import integer
from jaxdiff.cli import command_line
from jaxdiff.components import choose
from jaxdiff.media.pictures import grid, write_png
from jaxdiff.runs import restore, tasks
from jaxdiff.runs.directory import open_run
from jaxdiff.runs.settings import read_settings

SCALE = 4


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The run, the photographs and the method."""

    run: Path = dataclasses.field(metadata={"positional": True})
    """The run of a diffusion model of small colour photographs."""
    data_dir: str = ""
    """A TFDS directory that holds `kodak`."""
    count: int = 24
    """The number of photographs."""
    method: Literal["mmps", "ddrm", "diffpir", "ddnm_plus"] = "ddrm"
    """The method of posterior sampling."""
    controls: int = 24
    """The number of photographs that are also restored tile by tile."""
    steps: int = 10
    """The number of steps."""
    out: Path | None = None
    """A directory for a sheet of each photograph."""

    def __post_init__(self) -> None:
        integer("count", self.count, most=24)
        integer("controls", self.controls, least=0)
        integer("steps", self.steps)


def seams(x: np.ndarray, rows: Any, columns: Any) -> float:
    """The mean difference across borders of tiles, divided by that of all other neighbours."""
    across: list[float] = []
    inside: list[float] = []
    for axis, borders in ((0, rows), (1, columns)):
        steps = np.abs(np.diff(x, axis=axis)).mean(axis=(1 - axis, 2))
        here = np.isin(np.arange(1, x.shape[axis]), borders)
        across, inside = [*across, *steps[here]], [*inside, *steps[~here]]
    return float(np.mean(across) / np.mean(inside))


def peak() -> str:
    """The peak of the memory of this process."""
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.2f} GB"


def main(arguments: Arguments) -> None:
    """Prints a table."""
    model = jd.load(arguments.run)
    config = read_settings(open_run(arguments.run)).config
    own: dict[str, Any] = {"solver": choose(solvers.ddpm), "steps": arguments.steps}
    sampling = dataclasses.replace(config.sample, **own)
    # The photographs are of two shapes, upright and lying.
    source: Any = tfds.builder("kodak", data_dir=arguments.data_dir).as_data_source(split="test")
    side = model.shape[0]

    def enlarged(key: Any, x: np.ndarray) -> np.ndarray:
        small = np.asarray(jd.posterior.operators.bicubic(x.shape[:2], SCALE)(jnp.asarray(x[None])))[0]
        problem = tasks.super_resolve(small, SCALE)
        return restore.restore(key, model, problem, 1, sampling=sampling, method=arguments.method)[0]

    print("| photograph | bicubic | tile by tile | blended | seams: photograph | tile by tile | blended | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    table = []
    for number in range(arguments.count):
        x = np.asarray(data.to_floats(np.asarray(source[number]["image"])))
        x = x[: x.shape[0] // side * side, : x.shape[1] // side * side]
        key = jax.random.key(number)
        if not number:
            enlarged(key, x[: 3 * side, : 3 * side])
            print(f"peak of the memory after a photograph of {3 * side} pixels: {peak()}", file=sys.stderr)
        begin = time.monotonic()
        blended = enlarged(key, x)
        seconds = time.monotonic() - begin
        alone = np.full_like(x, np.nan)
        for i in range(0, x.shape[0] if number < arguments.controls else 0, side):
            for j in range(0, x.shape[1], side):
                here = (slice(i, i + side), slice(j, j + side))
                alone[here] = enlarged(jax.random.fold_in(key, i * x.shape[1] + j), x[here])
        low = jd.posterior.operators.bicubic(x.shape[:2], SCALE)(jnp.asarray(x[None]))[0]
        bicubic = np.clip(np.asarray(jax.image.resize(low, x.shape, "cubic")), -1, 1)
        psnr = [metrics.peak_signal_noise_ratio(x, y, data_range=2) for y in (bicubic, alone, blended)]
        places = [_borders(length, side) for length in x.shape[:2]]
        own_borders = [np.arange(side, length, side) for length in x.shape[:2]]
        ratios = [seams(x, *places), seams(alone, *own_borders), seams(blended, *places)]
        table.append([*psnr, *ratios, seconds])
        print(row(str(number), table[-1]), flush=True)
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            cells = np.stack([y[:256, :256] for y in (x, bicubic, alone, blended)])
            write_png(arguments.out / f"{number}.png", grid(cells, 4))
    print(row("mean", list(np.nanmean(table, axis=0))))
    print(f"peak of the memory after {arguments.count} photographs: {peak()}", file=sys.stderr)


def row(name: str, numbers: list[float]) -> str:
    """A row of the table."""
    cells = [f"{n:.2f}" for n in numbers[:3]] + [f"{n:.3f}" for n in numbers[3:6]] + [f"{numbers[6]:.0f}"]
    return f"| {name} | {' | '.join(cells)} |"


def _borders(length: int, side: int) -> np.ndarray:
    """The places where the overlapping tiles of `runs.restore` begin or end."""
    first = tiles.places(length, side, int(restore.SHARED * side))
    borders = np.concatenate([first, first + side])
    return borders[(borders > 0) & (borders < length)]


if __name__ == "__main__":
    command_line.run(main)
