"""The loop, its record on disk, and the process that runs it."""
