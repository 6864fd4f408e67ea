"""Scores of frames against a reference."""
