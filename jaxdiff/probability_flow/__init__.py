"""The probability-flow ODE of a denoiser, and its integration between data and noise.

- `variables`: the variables in which the ODE is smooth from end to end
- `fixed_steps`: integration over a grid
- `adaptive_steps`: integration to a tolerance, with the steps of `tsitouras`
- `transport`: integration from one end to the other, in either direction
"""

from jaxdiff.probability_flow.transport import Arrival, plain_rate, transport
from jaxdiff.probability_flow.variables import Path, Rate, time_at, velocity

__all__ = ["Arrival", "Path", "Rate", "plain_rate", "time_at", "transport", "velocity"]
