"""What is wrong, or only partly right, with files of sequences."""


class SequenceError(ValueError):
    """A sequence, image or list of clips is not as it must be; the message names the file."""


class SequenceWarning(UserWarning):
    """A sequence can be used, but not all of it."""
