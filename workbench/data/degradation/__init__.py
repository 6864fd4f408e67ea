"""Families of degradation: how low resolution is made of high, identified in folders and written to them."""
