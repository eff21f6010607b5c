"""Checkpoints: one directory a step, written by Orbax in the background and renamed into place once it is whole.

    checkpoints/1000/state/         the arrays, as Orbax wrote them
    checkpoints/1000/meta.json      step, metric, configuration, data iterator's state, code version, table of leaves
    checkpoints/1000/manifest.json  size and CRC-32 of every file above

Orbax detects missing files and damaged indices, but hands back wrong numbers without a word when a byte of array data
has changed on disk (its Zarr chunks are stored without a checksum). Hence the manifest: the files are compared with it
before anything is restored, and a checkpoint that fails is passed over for the next older one, with a warning.

A directory whose name is a number is a finished checkpoint: one that is being saved is called `tmp.<step>.<n>`, and
what a killed process leaves of it is removed by the next save.

With several processes the directory must lie on a file system they share. Each writes its own shards; the first one
adds the rest and renames once all of them have ended. A process that fails leaves a mark in the directory, for which
the others look while they wait: Orbax alone would have them wait for it until its timeout.

- `store`: `Checkpoints`, the whole of it; `saving`: one save; `retention`: which stay
- `arrays`: what is asked of Orbax; `leaves`: arrays by name; `meta`, `version`: what is told beside them; `manifest`:
  whether the files are as they were written
"""

from jaxdiff.runs.checkpoints.errors import CheckpointError as CheckpointError
from jaxdiff.runs.checkpoints.store import Checkpoints as Checkpoints
from jaxdiff.runs.checkpoints.store import Restored as Restored
