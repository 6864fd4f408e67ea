"""Watching a training from outside its loss: what each term asks of the student."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn


def gradient_stats(terms: dict[str, Tensor], student: nn.Module) -> dict[str, float]:
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
    pulls = {name: parameter_gradient(term, student) for name, term in terms.items()}
    measures = {f"gradient.{name}": pull.norm().item() for name, pull in pulls.items()}
    for first, second in combinations(pulls, 2):
        if measures[f"gradient.{first}"] and measures[f"gradient.{second}"]:
            measures[f"cosine.{first}.{second}"] = torch.cosine_similarity(pulls[first], pulls[second], dim=0).item()
    return measures


def parameter_gradient(term: Tensor, student: nn.Module, *, loss_scale: float = 1.0) -> Tensor:
    """Return the gradient of a term with respect to all trained parameters, as one float32 vector.

    Args:
        term: a scalar with a graph, which stays.
        student: whose parameters are meant; those that the term does not reach have gradient 0.
        loss_scale: factor of the loss on the way back, so that small gradients survive fp16; divided out again.
    """
    learned = [parameter for parameter in student.parameters() if parameter.requires_grad]
    parts = torch.autograd.grad(loss_scale * term, learned, retain_graph=True, allow_unused=True)
    filled = [torch.zeros_like(p) if part is None else part for part, p in zip(parts, learned, strict=True)]
    return torch.cat([part.flatten().float() for part in filled]) / loss_scale
