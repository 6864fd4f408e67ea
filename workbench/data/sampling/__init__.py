"""Training clips that are made while a training runs: still images in motion."""
