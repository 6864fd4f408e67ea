"""Small weights trained by this project, each with a card."""
