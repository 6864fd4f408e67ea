"""Inference in bounded memory: chunks of frames, tiles, whole videos."""
