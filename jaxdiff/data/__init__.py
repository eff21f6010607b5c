"""Data sets of records with named fields, and the batches drawn from them.

- `Dataset`: the base of data sets as components, which `open()` gives as `Examples`. `Digits`: scikit-learn's 8x8
  digits; `Toy`: points in the plane; `Tfds`: a set that TFDS has prepared, opened without TensorFlow, whose features
  are declared by those of `features`; `Folder`: a folder of pictures; `Arrays` and `from_arrays`: arrays in memory;
  `Elsewhere`: data that are not here, of a converted model.
- `Field`: what a named entry is.
- `select`, `Entry`: the entries of a batch, read from fields; `held_out`: examples that training never sees;
  `in_memory`: decodes a whole set once.
- `training_batches`, `evaluation_batches`: iterators (`Batches`) over batches, mappings from names to arrays.
- `prefetch`: moves batches to the device while the previous step runs (`Prefetched`).
- `device_arrays`, `training_indices`, `take`: the same batches from a set that is stored on the device.
- `to_floats`: bytes to [-1, 1], inside a step; `to_unit`, `to_uint8`: the same on the host, and back.
"""

from jaxdiff.extras import needed

with needed("jaxdiff.data"):
    from jaxdiff.data import features
    from jaxdiff.data.arrays import Arrays, from_arrays
    from jaxdiff.data.dataset import Dataset
    from jaxdiff.data.digits import Digits
    from jaxdiff.data.elsewhere import Elsewhere
    from jaxdiff.data.fields import Field
    from jaxdiff.data.folder import Folder
    from jaxdiff.data.on_device import device_arrays, take, training_indices
    from jaxdiff.data.pipelines import Batches, evaluation_batches, training_batches
    from jaxdiff.data.pixels import to_floats, to_uint8, to_unit
    from jaxdiff.data.prefetch import Prefetched, prefetch
    from jaxdiff.data.selection import Entry, held_out, select
    from jaxdiff.data.sources import Examples, in_memory
    from jaxdiff.data.tfds_sets import Tfds
    from jaxdiff.data.toy import TOYS, Toy

__all__ = [
    "TOYS",
    "Arrays",
    "Batches",
    "Dataset",
    "Digits",
    "Elsewhere",
    "Entry",
    "Examples",
    "Field",
    "Folder",
    "Prefetched",
    "Tfds",
    "Toy",
    "device_arrays",
    "evaluation_batches",
    "features",
    "from_arrays",
    "held_out",
    "in_memory",
    "prefetch",
    "select",
    "take",
    "to_floats",
    "to_uint8",
    "to_unit",
    "training_batches",
    "training_indices",
]
