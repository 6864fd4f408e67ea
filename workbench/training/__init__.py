"""Training: the loop, checkpoints and snapshots, the teacher cache, and the worker process."""
