"""Gap closed: the share of the teacher's lead that distillation passes on to the student.

This module imports nothing, so that viewers, which import no torch, use the same definition as the experiment.
"""

from __future__ import annotations


def gap_closed(
    plain: float | None,
    distilled: float | None,
    teacher: float | None,
    *,
    better: str = "higher",
    min_lead: float = 1e-6,
) -> float | None:
    r"""Return the gap closed in percent; None where a score is missing or the teacher leads by less than ``min_lead``.

    .. math:: 100 \, \frac{\text{distilled} - \text{plain}}{\text{teacher} - \text{plain}}

    Args:
        plain: score of the plain student.
        distilled: score of the distilled student.
        teacher: score of the teacher.
        better: ``higher`` or ``lower``: the direction in which the score improves.
        min_lead: smallest lead of the teacher over the plain student for which the share is defined.

    Example:
        >>> gap_closed(24.0, 24.5, 26.0), gap_closed(0.5, 0.375, 0.0, better="lower"), gap_closed(24.0, 24.5, 23.0)
        (25.0, 25.0, None)
    """
    if plain is None or distilled is None or teacher is None:
        return None
    lead = teacher - plain if better == "higher" else plain - teacher
    return None if lead < min_lead else 100 * (distilled - plain) / (teacher - plain)
