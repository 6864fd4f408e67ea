"""Training loop: a generator that yields one record a step, so that the caller decides when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from workbench.choices import FeatureLayer
from workbench.data.sampling.true_flow import TrueFlow
from workbench.distill.losses import TeacherTargets
from workbench.distill.objective import Diagnostics, Objective, Terms, weighted_sum
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.training.accelerator import make_accelerator
from workbench.training.gradient_stats import add_gradients, gradient_stats


class Batch(NamedTuple):
    """Clips of a step, or a micro-batch of them; a plain tuple of the first two fields is accepted in its place.

    Attributes:
        low: ``(B, T, 3, H, W)``.
        high: ``(B, T, 3, s*H, s*W)``.
        targets: teacher outputs that the losses need, where a cache has them.
        flow: true flow of the low-resolution frames, where the data has it; ``valid`` marks the clips with known flow.
    """

    low: Tensor
    high: Tensor
    targets: TeacherTargets | None = None
    flow: TrueFlow | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        low, high = self.low.to(device, non_blocking=True), self.high.to(device, non_blocking=True)
        targets = self.targets.to(device) if self.targets is not None else None
        return Batch(low, high, targets, self.flow.to(device) if self.flow is not None else None)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which a GPU copies while the CPU goes on."""
        targets, flow = self.targets, self.flow
        return Batch(
            self.low.pin_memory(), self.high.pin_memory(), targets and targets.pin_memory(), flow and flow.pin_memory()
        )

    def chunk(self, chunks: int) -> list[Batch]:
        """Split the batch into micro-batches, as ``Tensor.chunk`` does; only without teacher outputs."""
        assert self.targets is None
        lows, highs = self.low.chunk(chunks), self.high.chunk(chunks)
        flows = self.flow.chunk(chunks) if self.flow is not None else [None] * len(lows)
        return [Batch(low, high, None, flow) for low, high, flow in zip(lows, highs, flows, strict=True)]


@dataclass(frozen=True)
class Step:
    """Record of one update.

    Attributes:
        number: from 1.
        terms: by name, unweighted.
        weights: of the terms at this step.
        total: weighted sum of the terms.
        learning_rate: of this update.
        gradient_norm: before clipping.
        seconds: duration, including the wait for data.
        data_time: seconds of these spent waiting for data.
        diagnostics: of the ConvLSTM (``collapse_index``), of gradients (``gradient.TERM``, ``ratio.TERM``).
        notes: events of this step, for the log.
        stop_requested: whether a process was asked to stop before the end of this step.
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
    stop_requested: bool = False


class StudentWithObjective(nn.Module):
    """Student and objective: all trained parameters in one module, as ``DistributedDataParallel`` needs."""

    def __init__(self, student: VideoSR, objective: Objective, feature_layer: FeatureLayer) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.return_features: FeatureLayer | None = feature_layer if objective.needs_features else None

    def forward(
        self, low: Tensor, high: Tensor, teacher: Upscaled | TeacherTargets | None, flow: TrueFlow | None = None
    ) -> tuple[Terms, Diagnostics]:
        """Return the loss terms of a batch, in float32, and diagnostics."""
        upscaled = self.student(self.student.select_input(low, high), return_features=self.return_features)
        with torch.autocast(low.device.type, enabled=False):
            return self.objective.compute_terms(upscaled, high, teacher, low, flow)


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
    accelerator: Accelerator | None = None,
    stop_requested: Callable[[], bool] = bool,
) -> Iterator[Step]:
    """Update ``student`` once per batch and yield a record of each step.

    The CPU waits for the device once a step, between the backward pass and the update: the terms, the diagnostics and
    the norm of the gradient are read together, and the update is left out if one of them is not finite. The scaler of
    fp16 waits once more, for its own check. Nothing else of a step reads a number from the device.

    A run without a teacher is the same loop with the reconstruction as its only term. ``islice(train(...), 20)`` does
    twenty steps.

    Args:
        student: trained in place.
        batches: those after step ``done``, see :class:`Batch`. With ``accelerator.gradient_accumulation_steps`` above
            1 each is a micro-batch, and that number of them makes a step; fewer at the end are left out.
        objective: terms and weights.
        optimizer: of the student's and the objective's parameters; a group may have a ``rate``, which multiplies the
            learning rate.
        steps: length of the whole run, which the cosine of the learning rate spans.
        learning_rate: at the first and at the last step.
        teacher: needed where the objective distills and the batches contain no teacher outputs; never changed.
        feature_layer: layer whose features are compared.
        done: steps done before (a resumed run).
        max_grad_norm: largest norm of the gradient; 0: no clipping.
        average: running average of the student, updated after every step.
        gradient_stats_every: steps between two measurements of every term's gradient over the whole batch
            (:func:`gradient_stats`); 0: never.
        accelerator: device, precision and processes; by default one process in float32 on the student's device.
        stop_requested: returns whether this process was asked to stop; the record of a step has the answer for all
            processes, and the caller acts on it.

    Raises:
        FloatingPointError: a term or the gradient is not finite; parameters are unchanged, gradients are cleared.
    """
    accelerator = accelerator or make_accelerator(device=next(student.parameters()).device)
    accumulation = accelerator.gradient_accumulation_steps
    if teacher is not None:
        teacher.eval().requires_grad_(False)
        teacher.check_values = False  # reading them would wait for the device; losses that are not finite end the run
    module = StudentWithObjective(student, objective, feature_layer)
    model = accelerator.prepare_model(module)
    stepper = accelerator.prepare_optimizer(optimizer, device_placement=False)
    assert isinstance(stepper, AcceleratedOptimizer)
    remaining, number, started = iter(batches), done, time.perf_counter()

    while micro_batches := list(islice(remaining, accumulation)):
        if len(micro_batches) < accumulation:
            return  # accelerate updates only after a whole step
        number += 1
        data_time = time.perf_counter() - started
        weights = objective.weights_at(number)
        ratio = objective.ratio if objective.ratio is not None and objective.ratio.is_due(number) else None
        logs_gradients = bool(gradient_stats_every) and number % gradient_stats_every == 0
        means: Diagnostics = {}
        diagnostics: Diagnostics = {}
        gradients: dict[str, Tensor] = {}
        student.train()
        for micro_batch in micro_batches:
            micro_batch = micro_batch if isinstance(micro_batch, Batch) else Batch(*micro_batch)
            low, high, targets, flow = micro_batch.to(accelerator.device)
            if targets is None and teacher is not None and objective.distills:
                with torch.no_grad(), accelerator.autocast():
                    targets = teacher(teacher.select_input(low, high), return_features=module.return_features)
            with accelerator.accumulate(model):
                terms, measured = model(low, high, targets, flow)
                _add_means(means, terms, len(micro_batches))
                _add_means(diagnostics, measured, len(micro_batches))
                names = terms if logs_gradients else ("reconstruction", *ratio.ratios) if ratio is not None else ()
                scale = loss_scale(accelerator)
                add_gradients(gradients, terms, names, student, factor=1 / accumulation, loss_scale=scale)
                accelerator.backward(weighted_sum(terms, weights))
        trained = [parameter for parameter in module.parameters() if parameter.grad is not None]
        norm = accelerator.clip_grad_norm_(trained, max_grad_norm or math.inf)
        assert norm is not None
        stats = gradient_stats({name: _mean(accelerator, gradient) for name, gradient in gradients.items()})
        whole = {"norm": norm, "stop": torch.full((), float(stop_requested()), device=accelerator.device)}
        values, measures, stats, whole = read_numbers(accelerator, means, diagnostics, stats, whole)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad or (not math.isfinite(whole["norm"]) and accelerator.scaler is None):  # fp16's scaler skips such a step
            optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(
                f"step {number}: {', '.join(bad) or 'gradient'} not finite ({values}); "
                f"{lower_learning_rate_hint(learning_rate[0])}"
            )
        if ratio is not None:
            norms = {name: stats[f"gradient.{name}"] for name in ("reconstruction", *ratio.ratios)}
            ratio.update(norms)
            measures |= ratio.achieved_ratios(norms, weights)
        if logs_gradients:
            measures |= stats
        measures = {name: value for name, value in measures.items() if not math.isnan(value)}  # undefined: left out
        rate = cosine(number, steps, *learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        stepper.step()
        stepper.zero_grad()
        notes = ["step skipped: fp16 overflowed, the loss is scaled less"] if stepper.step_was_skipped else []
        if average is not None:
            average.update_parameters(student)
        if objective.memory is not None and objective.memory.freeze_if_below(values.get("temporal", math.inf)):
            notes.append(
                f"memory frozen: temporal loss {values['temporal']:.2e} below {objective.memory.freeze_below:g}"
            )
            model = accelerator.prepare_model(module)  # the processes synchronize fewer gradients from here on

        now, total = time.perf_counter(), sum(weights[name] * value for name, value in values.items())
        yield Step(
            number, values, weights, total, rate, whole["norm"], now - started, data_time, measures, tuple(notes),
            stop_requested=whole["stop"] > 0,
        )  # fmt: skip
        started = time.perf_counter()


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Return half a cosine from ``start`` at step 1 to ``end`` at the last step.

    Example:
        >>> [round(cosine(step, 3, 1.0, 0.0), 3) for step in (1, 2, 3)]
        [1.0, 0.5, 0.0]
    """
    progress = (step - 1) / max(steps - 1, 1)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def loss_scale(accelerator: Accelerator) -> Tensor | float:
    """Return the factor of the loss in the backward pass; it is above 1 in fp16 only."""
    return 1.0 if accelerator.scaler is None else accelerator.scaler.scale(torch.ones((), device=accelerator.device))


def read_numbers(accelerator: Accelerator, *groups: Mapping[str, Tensor | float]) -> list[dict[str, float]]:
    """Return scalars as numbers, by one transfer from the device; those on it as means over the processes."""
    tensors = [value.float() for group in groups for value in group.values() if isinstance(value, Tensor)]
    numbers = iter(_mean(accelerator, torch.stack(tensors)).tolist())
    return [{n: next(numbers) if isinstance(v, Tensor) else v for n, v in group.items()} for group in groups]


def _mean(accelerator: Accelerator, values: Tensor) -> Tensor:
    mean = accelerator.reduce(values, "mean")
    assert isinstance(mean, Tensor)
    return mean


def _add_means(means: Diagnostics, values: Mapping[str, Tensor | float], count: int) -> None:
    """Add the values of one of ``count`` micro-batches to their means."""
    for name, value in values.items():
        means[name] = means.get(name, 0.0) + (value.detach() if isinstance(value, Tensor) else value) / count


def lower_learning_rate_hint(rate: float) -> str:
    """Return the advice for a training that diverges."""
    return f"lower the learning rate: begin a new run with optimizer.learning_rate below {rate:g}"
