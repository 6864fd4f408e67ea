"""Gradients of single loss terms with respect to the student: norms, cosines, sums over micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import torch
from torch import Tensor, nn


def gradient_stats(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the norm of each term's gradient and the cosines between these gradients.

    Args:
        gradients: gradient of each term, unweighted, as one vector; see :func:`add_gradients`.

    Returns:
        Scalars on the device of the gradients. ``gradient.TERM``: the norm; ``cosine.FIRST.SECOND``: 1 where two
        gradients are parallel, 0 where they are orthogonal, negative where they oppose each other, NaN where one is 0.
    """
    stats = {f"gradient.{name}": gradient.norm() for name, gradient in gradients.items()}
    for first, second in combinations(gradients, 2):
        product = stats[f"gradient.{first}"] * stats[f"gradient.{second}"]
        stats[f"cosine.{first}.{second}"] = gradients[first] @ gradients[second] / product
    return stats


def add_gradients(
    sums: dict[str, Tensor],
    terms: Mapping[str, Tensor],
    names: Iterable[str],
    student: nn.Module,
    *,
    factor: float,
    loss_scale: Tensor | float,
) -> None:
    """Add the gradients of some terms on a micro-batch, times a factor, to their sums over a batch.

    It takes one backward pass per term, so it is for few steps only.
    """
    for name in names:
        gradient = factor * parameter_gradient(terms[name], student, loss_scale=loss_scale)
        sums[name] = sums[name] + gradient if name in sums else gradient


def parameter_gradient(term: Tensor, student: nn.Module, *, loss_scale: Tensor | float = 1.0) -> Tensor:
    """Return the gradient of a term with respect to all trained parameters, as one float32 vector.

    Args:
        term: a scalar with a graph, which is retained.
        student: the gradient is that of its parameters; it is 0 for those that the term does not depend on.
        loss_scale: factor of the loss in the backward pass, so that small gradients survive fp16; divided out again.
    """
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(
        loss_scale * term, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.flatten().float() for gradient in gradients]) / loss_scale
