"""Spatial distillation: distance of the attention maps of student and teacher (STD, section 3.1).

Symbols: ``workbench.models.video_sr``.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from workbench.choices import AttentionKind, Normalization
from workbench.errors import ShapeError

ATTENTION_KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)


def attention_map(
    features: Tensor, *, kind: AttentionKind = "sum_squares", normalization: Normalization = "none"
) -> Tensor:
    r"""Return the attention map: the energy of the channels at each pixel.

    .. math::
        M_{sum} = \sum_c |F_c| \quad (1) \qquad
        M^2_{sum} = \sum_c |F_c|^2 \quad (2) \qquad
        M^2_{max} = \max_c |F_c|^2 \quad (3)

    Args:
        features: ``(..., C, H, W)``, any scale; computed in float32.
        kind: ``sum_squares`` is equation (2), the paper's choice; ``sum_abs`` (1); ``max_squares`` (3).
        normalization: ``none`` as the paper writes it; ``unit`` divides each map by its Euclidean length, which
            makes it independent of the features' gain (as Zagoruyko and Komodakis' attention transfer does).

    Returns:
        ``(..., H, W)``, non-negative.

    Raises:
        ShapeError: fewer than three axes.

    Example:
        >>> attention_map(torch.tensor([3.0, -4.0]).view(2, 1, 1)).item()
        25.0
    """
    if features.ndim < 3:
        raise ShapeError(f"features: want (..., C, H, W), got {tuple(features.shape)}")
    features = features.float()
    if kind == "sum_squares":
        maps = features.square().sum(dim=-3)
    elif kind == "sum_abs":
        maps = features.abs().sum(dim=-3)
    elif kind == "max_squares":
        maps = features.square().amax(dim=-3)
    else:
        raise ValueError(f"kind: want one of {', '.join(ATTENTION_KINDS)}, got {kind!r}")
    if normalization == "unit":
        maps = maps / maps.flatten(-2).norm(dim=-1).clamp_min(1e-12)[..., None, None]
    elif normalization != "none":
        raise ValueError(f"normalization: want 'none' or 'unit', got {normalization!r}")
    return maps


def spatial_distillation(
    student: Tensor,
    teacher: Tensor,
    *,
    kind: AttentionKind = "sum_squares",
    normalization: Normalization = "unit",
) -> Tensor:
    r"""Return the squared L2 distance of the attention maps of two networks.

    .. math:: L_{SD} = \frac{1}{N} \sum_{t=1}^{N} \frac{1}{HW} \lVert M^S_t - M^T_t \rVert_2^2

    The channel counts may differ. Whether the paper squares the distance, and whether it sums or averages over the
    pixels, is not stated in any public source; this is the squared distance, a mean over frames and pixels. Unit maps
    of ``HW`` pixels have values near :math:`1/\sqrt{HW}`; they are scaled by :math:`\sqrt{HW}` before the distance,
    so that the term does not depend on the size of the crop.

    Args:
        student: F^SR of the student, ``(B, T, C, H, W)``.
        teacher: F^SR of the teacher, ``(B, T, C', H, W)``; no gradient reaches it.
        kind: see :func:`attention_map`.
        normalization: see :func:`attention_map`.

    Returns:
        A scalar.

    Raises:
        ShapeError: the frames or sizes of the two differ.
    """
    if student.shape[:-3] != teacher.shape[:-3] or student.shape[-2:] != teacher.shape[-2:]:
        raise ShapeError(f"features: want the same frames and size, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    student_maps = attention_map(student, kind=kind, normalization=normalization)
    teacher_maps = attention_map(teacher.detach(), kind=kind, normalization=normalization)
    return map_distance(student_maps, teacher_maps, normalization=normalization)


def map_distance(student: Tensor, teacher: Tensor, *, normalization: Normalization = "unit") -> Tensor:
    """Return the distance of :func:`spatial_distillation` for computed maps.

    Args:
        student: attention maps ``(B, T, H, W)`` of the student.
        teacher: those of the teacher; no gradient reaches it.
        normalization: normalization of both.

    Returns:
        A scalar.
    """
    if student.shape != teacher.shape:
        raise ShapeError(f"maps: want equal shapes, got {tuple(student.shape)}, {tuple(teacher.shape)}")
    pixels = student.shape[-1] * student.shape[-2] if normalization == "unit" else 1
    return (student - teacher.detach().float()).square().mean() * pixels


def attention_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between two maps, one number per frame; 1 where they are proportional.

    Args:
        first: maps ``(..., H, W)``.
        second: maps of the same shape.
    """
    return torch.cosine_similarity(first.flatten(-2), second.flatten(-2), dim=-1)
