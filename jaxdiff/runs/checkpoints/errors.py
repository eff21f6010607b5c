"""The error of this folder."""


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or none can be restored. One line that names the directory and the reason."""
