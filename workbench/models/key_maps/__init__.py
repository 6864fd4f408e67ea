"""Weights of other code bases: the names and settings of their networks -> ours."""
