"""Distillation: attention maps, memory cells, other losses, and the objective of the student."""
