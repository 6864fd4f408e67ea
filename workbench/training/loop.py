"""Training loop: a generator that yields one record per step, so that the caller decides when to stop.

Symbols: ``workbench.models.video_sr``.
"""

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

from workbench.autocast import without_autocast
from workbench.choices import FeatureLayer
from workbench.data.sampling.true_flow import TrueFlow
from workbench.devices import device_of
from workbench.distill.losses import TeacherTargets
from workbench.distill.objective import Diagnostics, Objective, Terms, weighted_sum
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.training.accelerator import make_accelerator
from workbench.training.gradient_stats import add_gradients, gradient_stats


class Batch(NamedTuple):
    """A micro-batch of clips; :func:`train` accepts a plain tuple of the first two fields in its place.

    Attributes:
        low: ``(B, T, 3, H, W)``, RGB in [0, 1].
        high: ``(B, T, 3, s*H, s*W)``, RGB in [0, 1].
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

    def split_into(self, count: int) -> list[Batch]:
        """Split the batch into micro-batches, as ``Tensor.chunk`` does; only without teacher outputs."""
        if self.targets is not None:
            raise ValueError("targets: want None, since teacher outputs are not split, got TeacherTargets")
        lows, highs = self.low.chunk(count), self.high.chunk(count)
        flows = self.flow.chunk(count) if self.flow is not None else [None] * len(lows)
        return [Batch(low, high, None, flow) for low, high, flow in zip(lows, highs, flows, strict=True)]


@dataclass(frozen=True)
class Step:
    """Record of one update.

    Attributes:
        number: number of the step, from 1.
        terms: unweighted terms by name, means over micro-batches and processes.
        weights: weights of the terms at this step.
        total: weighted sum of the terms.
        learning_rate: learning rate of this update.
        gradient_norm: norm of the gradient before clipping.
        seconds: duration, including the wait for data.
        data_time: seconds of these spent waiting for data.
        diagnostics: of the ConvLSTM (``collapse_index``, ``cell_deviation``, ``memory_frozen``), and at some steps of
            the gradients (``gradient.TERM``, ``cosine.TERM.TERM``, ``ratio.TERM``).
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
        """Return the loss terms of a micro-batch, in float32, and diagnostics; arguments as ``compute_terms``."""
        upscaled = self.student(self.student.select_input(low, high), return_features=self.return_features)
        with without_autocast(low.device):
            return self.objective.compute_terms(upscaled, high, teacher, low, flow)


def train(
    student: VideoSR,
    batches: Iterable[Batch | tuple[Tensor, Tensor]],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    initial_lr: float,
    final_lr: float,
    teacher: VideoSR | None = None,
    feature_layer: FeatureLayer = "hr",
    completed_steps: int = 0,
    max_grad_norm: float = 0.0,
    ema_model: AveragedModel | None = None,
    gradient_stats_every: int = 0,
    accelerator: Accelerator | None = None,
    stop_requested: Callable[[], bool] = bool,
) -> Iterator[Step]:
    """Update ``student`` once per ``gradient_accumulation_steps`` batches and yield a record of each step.

    The CPU waits for the device once per step, between the backward pass and the update: the terms, the diagnostics and
    the norm of the gradient are read together, and the update is left out if one of them is not finite. The scaler of
    fp16 waits once more, for its own check. Nothing else of a step reads a number from the device.

    A run without a teacher is the same loop without distillation terms. ``islice(train(...), 20)`` does twenty steps.

    Args:
        student: trained in place.
        batches: micro-batches after the completed steps, see :class:`Batch`; each
            ``accelerator.gradient_accumulation_steps`` of them make a step, and fewer at the end are left out.
        objective: terms and weights.
        optimizer: optimizer of the student's and the objective's parameters; the learning rate of a group is multiplied
            by its entry ``lr_mult``, if it has one.
        steps: length of the whole run, which the cosine of the learning rate spans.
        initial_lr: learning rate of the first step.
        final_lr: learning rate of the last step.
        teacher: needed where the objective distills and the batches contain no teacher outputs; set to evaluation mode
            and frozen, its weights are never updated.
        feature_layer: layer whose features are compared.
        completed_steps: steps before this call (a resumed run).
        max_grad_norm: largest norm of the gradient; 0: no clipping.
        ema_model: running average of the student, updated after every step, also after one that fp16 skips.
        gradient_stats_every: steps between two measurements of every term's gradient over the whole batch
            (:func:`gradient_stats`); 0: never.
        accelerator: device, precision and processes; by default one process in float32 on the student's device.
        stop_requested: returns whether this process was asked to stop; the record of a step has the answer for all
            processes, and the caller acts on it.

    Raises:
        FloatingPointError: a term or the gradient is not finite; parameters are unchanged, gradients are cleared.
    """
    accelerator = accelerator or make_accelerator(device=device_of(student))
    accumulation = accelerator.gradient_accumulation_steps
    if teacher is not None:
        teacher.eval().requires_grad_(False)
        teacher.check_values = False  # reading them would wait for the device; losses that are not finite end the run
    module = StudentWithObjective(student, objective, feature_layer)
    model = accelerator.prepare_model(module)
    # its step and zero_grad do nothing before the last micro-batch of a step or after an overflow of fp16
    accelerated_optimizer = accelerator.prepare_optimizer(optimizer, device_placement=False)
    assert isinstance(accelerated_optimizer, AcceleratedOptimizer)
    batch_iterator, step, started = iter(batches), completed_steps, time.perf_counter()

    while micro_batches := list(islice(batch_iterator, accumulation)):
        if len(micro_batches) < accumulation:
            return  # accelerate updates only after a whole step
        step += 1
        data_time = time.perf_counter() - started
        weights = objective.weights_at(step)
        gradient_ratio = objective.ratio if objective.ratio is not None and objective.ratio.is_due(step) else None
        balanced_terms = ("reconstruction", *gradient_ratio.ratios) if gradient_ratio is not None else ()
        logs_gradients = bool(gradient_stats_every) and step % gradient_stats_every == 0
        mean_terms: Diagnostics = {}
        mean_diagnostics: Diagnostics = {}
        gradients: dict[str, Tensor] = {}
        student.train()  # the caller may have evaluated it between two steps
        for micro_batch in micro_batches:
            batch = micro_batch if isinstance(micro_batch, Batch) else Batch(*micro_batch)
            low, high, targets, flow = batch.to(accelerator.device)
            teacher_output: Upscaled | TeacherTargets | None = targets
            if targets is None and teacher is not None and objective.distills:
                with torch.no_grad(), accelerator.autocast():
                    teacher_output = objective.forward_teacher(teacher, teacher.select_input(low, high), feature_layer)
            with accelerator.accumulate(model):
                terms, diagnostics = model(low, high, teacher_output, flow)
                _add_means(mean_terms, terms, accumulation)
                _add_means(mean_diagnostics, diagnostics, accumulation)
                add_gradients(
                    gradients, terms, terms if logs_gradients else balanced_terms, student,
                    factor=1 / accumulation, loss_scale=loss_scale(accelerator),
                )  # fmt: skip
                accelerator.backward(weighted_sum(terms, weights))  # divides by the number of micro-batches
        trained = [parameter for parameter in module.parameters() if parameter.grad is not None]
        norm = accelerator.clip_grad_norm_(trained, max_grad_norm or math.inf)  # clipping at inf measures the norm only
        assert norm is not None  # it is with DeepSpeed only
        stats = gradient_stats({name: _mean(accelerator, gradient) for name, gradient in gradients.items()})
        whole = {"norm": norm, "stop": torch.full((), float(stop_requested()), device=accelerator.device)}
        values, measures, stats, whole = read_numbers(accelerator, mean_terms, mean_diagnostics, stats, whole)
        if reason := _not_finite(values, whole["norm"], accelerator):
            optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(f"step {step}: {reason}; {lower_learning_rate_hint(initial_lr)}")
        if gradient_ratio is not None:  # it changes the weights of the next steps, not of this one
            norms = {name: stats[f"gradient.{name}"] for name in balanced_terms}
            gradient_ratio.update(norms)
            measures |= gradient_ratio.achieved_ratios(norms, weights)
        if logs_gradients:
            measures |= stats
        lr = cosine_annealing(step, steps, initial_lr, final_lr)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_mult", 1.0)
        accelerated_optimizer.step()
        accelerated_optimizer.zero_grad()
        notes = ["step skipped: fp16 overflowed, loss scale reduced"] if accelerated_optimizer.step_was_skipped else []
        if ema_model is not None:
            ema_model.update_parameters(student)
        if objective.memory is not None and objective.memory.freeze_if_below(values.get("temporal", math.inf)):
            notes.append(
                f"memory frozen: temporal loss {values['temporal']:.2e} below {objective.memory.freeze_below:g}"
            )
            model = accelerator.prepare_model(
                module
            )  # DDP registered the ConvLSTM's parameters; wrap again without them

        yield Step(
            number=step,
            terms=values,
            weights=weights,
            total=sum(weights[name] * value for name, value in values.items()),
            learning_rate=lr,
            gradient_norm=whole["norm"],
            seconds=time.perf_counter() - started,
            data_time=data_time,
            diagnostics={
                name: value for name, value in measures.items() if not math.isnan(value)
            },  # undefined: left out
            notes=tuple(notes),
            stop_requested=whole["stop"] > 0,
        )
        started = time.perf_counter()


def _not_finite(terms: Mapping[str, float], gradient_norm: float, accelerator: Accelerator) -> str:
    """Name the terms that are not finite, or the gradient, whose overflow in fp16 is left to the scaler; else empty."""
    bad = [name for name, value in terms.items() if not math.isfinite(value)]
    if not bad and not math.isfinite(gradient_norm) and accelerator.scaler is None:
        bad = ["gradient"]
    return f"{', '.join(bad)} not finite ({terms})" if bad else ""


def cosine_annealing(step: int, steps: int, start: float, end: float) -> float:
    """Return half a cosine from ``start`` at step 1 to ``end`` at the last step.

    Example:
        >>> [round(cosine_annealing(step, 3, 1.0, 0.0), 3) for step in (1, 2, 3)]
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


def lower_learning_rate_hint(learning_rate: float) -> str:
    """Return the advice for a training that diverges."""
    return f"lower the learning rate: begin a new run with optimizer.learning_rate below {learning_rate:g}"
