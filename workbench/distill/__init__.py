"""What a teacher passes on: where it looks, what it remembers."""
