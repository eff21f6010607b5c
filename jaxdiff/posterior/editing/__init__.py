"""Editing: new data that keep something of given data.

- `strength`: `from_strength`, the grid of an edit that goes back a part of the way to the noise
- `sdedit`: `sdedit`, noise to a level and denoise anew
- `inversion`: `invert`, the noise from which a deterministic sampler makes given data
- `interpolation`: `spherical`, between two noises
- `flow_edit`: `flow_edit`, along the difference of two velocities, without inversion
- `edit_friendly`: `edit_friendly` and `replay`, the noises of a sampler that ends at given data

`likelihood.encode` and `likelihood.decode` invert the probability-flow ODE itself.
"""

from jaxdiff.posterior.editing.edit_friendly import Noises, edit_friendly, replay
from jaxdiff.posterior.editing.flow_edit import flow_edit
from jaxdiff.posterior.editing.interpolation import spherical
from jaxdiff.posterior.editing.inversion import invert
from jaxdiff.posterior.editing.sdedit import sdedit
from jaxdiff.posterior.editing.strength import from_strength

__all__ = ["Noises", "edit_friendly", "flow_edit", "from_strength", "invert", "replay", "sdedit", "spherical"]
