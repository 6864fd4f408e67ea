"""The loop, on one screen: a generator of steps. Whoever iterates is the viewer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from workbench.distill.objective import Objective, weigh
from workbench.models.video_sr import Tap, VideoSR


@dataclass(frozen=True)
class Step:
    """What one update did.

    Attributes:
        number: from 1.
        terms: by name, unweighted.
        weights: of the terms at this step.
        total: their weighted sum.
        measures: what is watched beside the loss (``collapse_index``).
        gradient_norm: before clipping.
        learning_rate: of this update.
        seconds: it took, with the wait for data.
        notes: what happened, in words, if anything did.
    """

    number: int
    terms: dict[str, float]
    weights: dict[str, float]
    total: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    measures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 1 to ``end`` at the last step.

    Example:
        >>> [round(cosine(step, 3, 1.0, 0.0), 3) for step in (1, 2, 3)]
        [1.0, 0.5, 0.0]
    """
    along = (step - 1) / max(steps - 1, 1)
    return end + (start - end) * (1 + math.cos(math.pi * along)) / 2


def train(
    student: VideoSR,
    batches: Iterable[tuple[Tensor, Tensor]],
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    learning_rate: tuple[float, float],
    teacher: VideoSR | None = None,
    tap: Tap = "hr",
    done: int = 0,
    clip_gradient: float = 0.0,
    bf16: bool = False,
) -> Iterator[Step]:
    """Update ``student`` once per ``(low, high)`` batch, and say after each what happened.

    Take ``islice(steps, 20)`` to look at twenty, stop asking to pause, drop the iterator to stop for good. A run
    without a teacher is the same loop with the reconstruction as its only term.

    Args:
        student: trained in place.
        batches: the batches after step ``done``.
        objective: terms and weights.
        optimiser: of the student's (and the memory's) parameters; a group may have a ``rate`` relative to the others.
        steps: the whole length, which the learning rate's cosine spans.
        learning_rate: at the first and at the last step.
        teacher: needed where the objective distils; never changed.
        tap: which features are compared.
        done: steps that were done before (a resumed run).
        clip_gradient: largest norm of the gradient; 0: no clipping.
        bf16: run the networks under bf16 autocast; losses stay float32.

    Raises:
        FloatingPointError: a term or the gradient is not finite; names it, and the student is left as it was.
    """
    device = next(student.parameters()).device
    keep = tap if objective.distils else None
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    memory = objective.memory
    moved = list(chain(student.parameters(), memory.parameters() if memory else ()))
    started = time.perf_counter()

    for number, (low, high) in enumerate(batches, done + 1):
        low, high = low.to(device), high.to(device)
        student.train()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            theirs = None
            if teacher is not None and objective.distils:
                with torch.no_grad():
                    theirs = teacher(low, keep=keep)
            ours = student(low, keep=keep)
        terms, measures = objective.terms(ours, high, theirs)
        weights = objective.weights(number)
        total = weigh(terms, weights)
        seen = {name: term.item() for name, term in terms.items()}
        if bad := [name for name, value in seen.items() if not math.isfinite(value)]:
            raise FloatingPointError(f"step {number}: {', '.join(bad)} not finite; lower the learning rate: {seen}")

        optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(moved, clip_gradient or math.inf).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"step {number}: gradient not finite while the terms are {seen}")
        rate = cosine(number, steps, *learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        optimiser.step()
        notes = ()
        if memory is not None and memory.after_step(seen.get("temporal", math.inf)):
            notes = (f"memory frozen: temporal loss {seen['temporal']:.2e} below {memory.freeze_below:.0e}",)

        now = time.perf_counter()
        yield Step(number, seen, weights, total.item(), rate, norm, now - started, measures, notes)
        started = time.perf_counter()
