"""Preparation of training sets: sources, shots, filters, manifest and contact sheet."""
