"""Video files and folders of frames: reading, writing, colors, times, and what is known about a source."""
