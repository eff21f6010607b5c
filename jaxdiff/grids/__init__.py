"""Time grids."""

from jaxdiff.grids.grids import discrete, from_sigmas, karras, uniform_log_snr, uniform_time

__all__ = ["discrete", "from_sigmas", "karras", "uniform_log_snr", "uniform_time"]
