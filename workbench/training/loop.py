"""The loop, on one screen: a generator of steps. Whoever iterates is the viewer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from workbench.choices import FeatureLayer
from workbench.data.sampling.true_flow import TrueFlow
from workbench.distill.objective import Objective, TeacherTargets, Terms, weighted_sum
from workbench.distill.ratio import GradientRatio
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.training.engine import Engine
from workbench.training.watch import gradient_stats, parameter_gradient


class Batch(NamedTuple):
    """Clips of a step, or of one of its pieces; a plain tuple of the first parts will do as well.

    Attributes:
        low: ``(B, T, 3, H, W)``.
        high: ``(B, T, 3, s*H, s*W)``.
        targets: outputs of the teacher that the losses need, where a cache has them.
        flow: true flow of the low-resolution frames, where the data has it; its ``valid`` marks the clips that do.
    """

    low: Tensor
    high: Tensor
    targets: TeacherTargets | None = None
    flow: TrueFlow | None = None

    def to(self, device: torch.device) -> Batch:
        """Return it on a device."""
        low, high = self.low.to(device, non_blocking=True), self.high.to(device, non_blocking=True)
        taught = self.targets.to(device) if self.targets is not None else None
        return Batch(low, high, taught, self.flow.to(device) if self.flow is not None else None)

    def pin_memory(self) -> Batch:
        """Return it in page-locked memory, but for outputs of the teacher."""
        flow = self.flow.pin_memory() if self.flow is not None else None
        return Batch(self.low.pin_memory(), self.high.pin_memory(), self.targets, flow)

    def chunk(self, chunks: int) -> list[Batch]:
        """Split it along the batch, as ``Tensor.chunk`` does; only without outputs of the teacher."""
        assert self.targets is None
        lows, highs = self.low.chunk(chunks), self.high.chunk(chunks)
        flows = self.flow.chunk(chunks) if self.flow is not None else [None] * len(lows)
        return [Batch(low, high, None, flow) for low, high, flow in zip(lows, highs, flows, strict=True)]


@dataclass(frozen=True)
class Step:
    """What one update did.

    Attributes:
        number: from 1.
        terms: by name, unweighted.
        weights: of the terms at this step.
        total: their weighted sum.
        diagnostics: of the ConvLSTM (``collapse_index``), of gradients (``gradient.TERM``, ``ratio.TERM``).
        gradient_norm: before clipping.
        learning_rate: of this update.
        seconds: it took, with the wait for data.
        data_time: seconds of these spent waiting for data.
        notes: what happened, in words, if anything did.
    """

    number: int
    terms: dict[str, float]
    weights: dict[str, float]
    total: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    data_time: float = 0.0
    diagnostics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from ``start`` at step 1 to ``end`` at the last step.

    Example:
        >>> [round(cosine(step, 3, 1.0, 0.0), 3) for step in (1, 2, 3)]
        [1.0, 0.5, 0.0]
    """
    along = (step - 1) / max(steps - 1, 1)
    return end + (start - end) * (1 + math.cos(math.pi * along)) / 2


class StudentWithObjective(nn.Module):
    """The student and what it is asked: all that learns, in one module, as averaging over processes wants it."""

    def __init__(self, student: VideoSR, objective: Objective, tap: FeatureLayer) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.return_features: FeatureLayer | None = tap if objective.needs_features else None

    def forward(
        self, low: Tensor, high: Tensor, teacher: Upscaled | TeacherTargets | None, flow: TrueFlow | None = None
    ) -> tuple[Terms, dict[str, float]]:
        """Return the terms of a batch, in float32, and diagnostics."""
        ours = self.student(self.student.select_input(low, high), return_features=self.return_features)
        with torch.autocast(low.device.type, enabled=False):
            return self.objective.terms(ours, high, teacher, low, flow)


def train(
    student: VideoSR,
    batches: Iterable[Batch | tuple[Tensor, Tensor]],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    learning_rate: tuple[float, float],
    teacher: VideoSR | None = None,
    feature_layer: FeatureLayer = "hr",
    done: int = 0,
    max_grad_norm: float = 0.0,
    average: AveragedModel | None = None,
    gradient_stats_every: int = 0,
    engine: Engine | None = None,
) -> Iterator[Step]:
    """Update ``student`` once per batch, and say after each what happened.

    Take ``islice(steps, 20)`` to look at twenty, stop asking to pause, drop the iterator to stop for good. A run
    without a teacher is the same loop with the reconstruction as its only term.

    Args:
        student: trained in place.
        batches: those after step ``done``, see :class:`Batch`. With ``engine.accumulate`` above 1 each is a piece, and
            so many make a step.
        objective: terms and weights.
        optimizer: of the student's and the objective's parameters; a group may have a ``rate`` relative to the others.
        steps: the whole length, which the learning rate's cosine spans.
        learning_rate: at the first and at the last step.
        teacher: needed where the objective distils and the batches bring nothing of it; never changed.
        feature_layer: layer whose features are compared.
        done: steps that were done before (a resumed run).
        max_grad_norm: largest norm of the gradient; 0: no clipping.
        average: a running average of the student, brought up to date after every step.
        gradient_stats_every: steps between two measurements of every term's gradient (see ``training.watch``); 0:
            never.
        engine: device, precision and processes; one process in float32 where the student is, if left out.

    Raises:
        FloatingPointError: a term or the gradient is not finite; names it, and the student is left as it was.
    """
    engine = engine or Engine(device=next(student.parameters()).device)
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    memory, return_features = objective.memory, feature_layer if objective.needs_features else None
    learns = StudentWithObjective(student, objective, feature_layer)
    pupil, driven = engine.wrap(learns), engine.drive(optimizer)
    rest, number, started = iter(batches), done, time.perf_counter()

    while pieces := list(islice(rest, engine.accumulate)):
        number += 1
        waited = time.perf_counter() - started
        weights, watching = objective.weights(number), gradient_stats_every > 0 and number % gradient_stats_every == 0
        ratio = objective.ratio if objective.ratio is not None and objective.ratio.is_due(number) else None
        vectors: dict[str, Tensor] = {}
        student.train()
        seen: dict[str, float] = {}
        measures: dict[str, float] = {}
        for piece in pieces:
            batch = (piece if isinstance(piece, Batch) else Batch(*piece)).to(engine.device)
            low, high, theirs = batch.low, batch.high, batch.targets
            if theirs is None and teacher is not None and objective.distils:
                with torch.no_grad(), engine.autocast():
                    theirs = teacher(teacher.select_input(low, high), return_features=return_features)
            with engine.piece(pupil):
                terms, measured = pupil(low, high, theirs, batch.flow)
                for name, value in (terms | measured).items():
                    into = seen if name in terms else measures
                    into[name] = into.get(name, 0.0) + float(torch.as_tensor(value).detach()) / len(pieces)
                _refuse_infinite(number, seen, learning_rate[0])
                for name in ("reconstruction", *ratio.ratios) if ratio is not None else ():
                    vector = parameter_gradient(terms[name], student, loss_scale=engine.loss_scale) / len(pieces)
                    vectors[name] = vectors[name] + vector if name in vectors else vector
                if watching and engine.batch_is_whole:
                    measures |= gradient_stats(terms, student)
                engine.backward(weighted_sum(terms, weights))
        seen, measures = engine.mean(seen), engine.mean(measures)
        if ratio is not None:
            measures |= _update_ratio(ratio, vectors, weights, engine)

        norm = engine.clip((p for p in learns.parameters() if p.grad is not None), max_grad_norm or math.inf)
        if not math.isfinite(norm) and engine.precision != "fp16":  # fp16 skips the step and scales less
            optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(
                f"step {number}: gradient not finite while the terms are {seen}; {lower_rate(learning_rate[0])}"
            )
        rate = cosine(number, steps, *learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        driven.step()
        driven.zero_grad()
        notes: tuple[str, ...] = (
            ("step skipped: fp16 overflowed, the loss is scaled less",) if driven.step_was_skipped else ()
        )
        if average is not None:
            average.update_parameters(student)
        if memory is not None and memory.after_step(seen.get("temporal", math.inf)):
            notes += (f"memory frozen: temporal loss {seen['temporal']:.2e} below {memory.freeze_below:.0e}",)
            pupil = engine.wrap(learns)  # processes must agree anew on what still learns

        now, total = time.perf_counter(), sum(weights[name] * value for name, value in seen.items())
        yield Step(number, seen, weights, total, rate, norm, now - started, waited, measures, notes)
        started = time.perf_counter()


def _update_ratio(
    ratio: GradientRatio, vectors: dict[str, Tensor], weights: dict[str, float], engine: Engine
) -> dict[str, float]:
    """Take in the gradients of a whole batch over all processes; returns the ratios under the weights of this step."""
    norms = {name: engine.mean_tensor(vector).norm().item() for name, vector in vectors.items()}
    ratio.update(norms)
    whole = norms["reconstruction"]
    return {f"ratio.{name}": weights[name] * norms[name] / whole if whole else 0.0 for name in ratio.ratios}


def lower_rate(rate: float) -> str:
    """Return what to do where a training diverges."""
    return f"lower the learning rate: begin a new run with optimizer.learning_rate below {rate:g}"


def _refuse_infinite(number: int, terms: dict[str, float], rate: float) -> None:
    if bad := [name for name, value in terms.items() if not math.isfinite(value)]:
        raise FloatingPointError(f"step {number}: {', '.join(bad)} not finite ({terms}); {lower_rate(rate)}")
