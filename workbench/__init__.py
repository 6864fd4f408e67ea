"""Watch one video super-resolution network teach another."""

__version__ = "0.1.0"
