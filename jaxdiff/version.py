"""The version of this library, stated here only."""

__version__ = "0.1.0"
