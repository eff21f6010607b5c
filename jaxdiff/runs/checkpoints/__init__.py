"""Checkpoints: one directory for each saved step. Orbax writes it in the background; a rename completes it.

    checkpoints/1000/state/part.ema/  the arrays of one top-level part of the state, as Orbax wrote them
    checkpoints/1000/state/leaves/    the top-level entries of the state that are single arrays
    checkpoints/1000/meta.json        step, metric, configuration, data iterator's state, code version, table of leaves
    checkpoints/1000/manifest.json    the size and the CRC-32 of every file above

Orbax detects missing files and damaged indices, but it returns wrong numbers without an error when a byte of array
data has changed on disk (its Zarr chunks are stored without a checksum). For this reason every file that is about to be
read is first compared with the manifest. A damaged checkpoint is skipped with a warning, and the next older one is
used. Each part has files of its own, so that loading an average does not read the optimiser's state.

A directory whose name is a number is a finished checkpoint. A save in progress is called `tmp.<step>.<n>`. If the
process is killed, the next save removes that directory.

With several processes the directory must be on a shared file system. Each process writes its own shards. The first
process writes the other files, and renames the directory when all processes have finished. A process that fails leaves
a mark in the directory. The other processes look for the mark while they wait; Orbax alone would wait for its timeout.

- `store`: the class `Checkpoints`; `saving`: one save; `retention`: which checkpoints are kept
- `arrays`: the calls of Orbax; `leaves`: the state as named arrays; `meta`: the file `meta.json`; `manifest`: checksums
"""

from jaxdiff.extras import needed

with needed("jaxdiff.runs.checkpoints"):
    from jaxdiff.runs.checkpoints.errors import CheckpointError as CheckpointError
    from jaxdiff.runs.checkpoints.store import Checkpoints as Checkpoints
    from jaxdiff.runs.checkpoints.store import Restored as Restored
