"""Video super-resolution networks, one file each."""
