"""Training clips: crops of footage, memory-mapped arrays, shards, and still images in motion."""
