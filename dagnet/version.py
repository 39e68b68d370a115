"""The version of this software, the one that every command prints."""

__version__ = "0.1.0"
