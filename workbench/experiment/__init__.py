"""Experiments: variants of a distillation trained over seeds, their scores, paired statistics and tables."""
