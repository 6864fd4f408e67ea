"""Viewers of run and scene folders; they import no network."""
