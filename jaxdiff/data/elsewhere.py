"""The data of a model that was trained with another library."""

import dataclasses

from jaxdiff.data.dataset import Dataset
from jaxdiff.data.sources import Examples


@dataclasses.dataclass(frozen=True)
class Elsewhere(Dataset):
    """Data that are not here: those of a model that was converted from another library.

    The model samples and restores without them. To go on training it, name a data set.
    """

    def open(self) -> Examples:
        raise ValueError("data = Elsewhere: the data of a converted model are not here; name a data set by data.kind")
