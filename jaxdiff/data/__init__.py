"""Data sets of images or points, opened without TensorFlow, and the batches drawn from them.

- `open_digits`: scikit-learn's 8x8 digits; `open_tfds`: a TFDS image set by name; `open_folder`: a folder of pictures;
  `from_arrays`: arrays in memory; `toy2d`: points in the plane. Each returns an `Examples`.
- `in_memory`: decodes a whole set once.
- `training_batches`, `evaluation_batches`: iterators (`Batches`) over batches `{"x", "cond"}`.
- `prefetch`: moves batches to the device while the previous step runs (`Prefetched`).
- `device_arrays`, `training_indices`, `take`: the same batches from a set that is stored on the device.
- `to_unit`, `to_uint8`: bytes to [-1, 1] and back.
"""

from jaxdiff.data.digits import open_digits
from jaxdiff.data.folder import open_folder
from jaxdiff.data.on_device import device_arrays, take, training_indices
from jaxdiff.data.pipelines import Batches, evaluation_batches, training_batches
from jaxdiff.data.pixels import to_uint8, to_unit
from jaxdiff.data.prefetch import Prefetched, prefetch
from jaxdiff.data.sources import Examples, from_arrays, in_memory
from jaxdiff.data.tfds_sets import open_tfds
from jaxdiff.data.toy import TOYS, toy2d

__all__ = [
    "TOYS",
    "Batches",
    "Examples",
    "Prefetched",
    "device_arrays",
    "evaluation_batches",
    "from_arrays",
    "in_memory",
    "open_digits",
    "open_folder",
    "open_tfds",
    "prefetch",
    "take",
    "to_uint8",
    "to_unit",
    "toy2d",
    "training_batches",
    "training_indices",
]
