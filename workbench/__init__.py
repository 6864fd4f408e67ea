"""Watch one video super-resolution network teach another."""

__version__ = "0.2.0"

DISTRIBUTION = "vsr-distillation-workbench"
"""Name on the package index, where `workbench` is another project."""
