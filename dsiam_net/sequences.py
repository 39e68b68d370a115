"""Video sequences on disk: what the rest of the software uses of ``dsiam_net.datasets``."""

from .datasets.errors import SequenceError, SequenceWarning
from .datasets.images import read_image
from .datasets.otb import read_otb
from .datasets.recognise import find_sequences, read_sequence
from .datasets.sequence import Frame, Sequence
from .datasets.text import read_regions

__all__ = [
    "Frame",
    "Sequence",
    "SequenceError",
    "SequenceWarning",
    "find_sequences",
    "read_image",
    "read_otb",
    "read_regions",
    "read_sequence",
]
