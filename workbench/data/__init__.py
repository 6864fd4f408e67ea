"""Training and test data: video files, degradation, datasets, sampling, preparation."""
