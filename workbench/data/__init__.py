"""Footage in: decoding, sample clips, degradation."""
