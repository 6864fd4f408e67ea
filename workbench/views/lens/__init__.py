"""The one viewer, and its two thin adapters."""
