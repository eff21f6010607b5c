"""What goes wrong with checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint could not be written, or none can be restored; one line that names the directory and the reason."""
