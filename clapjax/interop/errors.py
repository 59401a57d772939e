"""The one error of everything that reads or writes other projects' checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, does not fit, or cannot be written in the wanted layout."""
