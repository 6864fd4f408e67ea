"""Protocols, tables, and clips as several methods render them."""
