"""Datasets of the field and clips by name or path."""
