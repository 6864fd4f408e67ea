"""Watching a training from outside its loss: what each term asks of the student."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn


def gradients(terms: dict[str, Tensor], student: nn.Module) -> dict[str, float]:
    """How hard each term pulls at the student, and whether the terms pull the same way.

    One backward pass a term: sample it every so many steps.

    Args:
        terms: scalars with a graph, unweighted; the graph stays.
        student: whose parameters are meant.

    Returns:
        ``gradient.TERM``: the norm of the term's gradient; ``cosine.FIRST.SECOND``: 1 where two terms ask for the same,
        0 where they have nothing to do with each other, negative where they fight. A term without any pull on the
        student has no cosines.
    """
    learned = [parameter for parameter in student.parameters() if parameter.requires_grad]
    pulls: dict[str, Tensor] = {}
    measures: dict[str, float] = {}
    for name, term in terms.items():
        parts = torch.autograd.grad(term, learned, retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if part is None else part for part, p in zip(parts, learned, strict=True)]
        pulls[name] = torch.cat([part.flatten().float() for part in flat])
        measures[f"gradient.{name}"] = pulls[name].norm().item()
    for first, second in combinations(pulls, 2):
        if measures[f"gradient.{first}"] and measures[f"gradient.{second}"]:
            measures[f"cosine.{first}.{second}"] = torch.cosine_similarity(pulls[first], pulls[second], dim=0).item()
    return measures
