"""Presets: functions that return a :class:`~workbench.config.RunConfig`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from workbench.config import Data, Network, Optimizer, RunConfig
from workbench.distillation_config import Distillation, GradientRatios
from workbench.settings import flatten

TEACHER = Network(name="basicvsr_s", weights="pretrained:basicvsr_s")
STUDENT = Network(name="vespcn_s", flow_weights="pretrained:flow")


def _space_time(schedule_steps: int) -> Distillation:
    """Return the losses of docs/experiment_plan.md: maps and all cells, each with a gradient-norm ratio of 0.1."""
    ratios = GradientRatios(spatial=0.1, temporal=0.1)
    return Distillation(
        spatial_weight=0.0, temporal_weight=0.0, ratios=ratios, schedule_steps=schedule_steps, cells="all"
    )


def smoke() -> RunConfig:
    """Return two tiny steps on a CPU with the shipped teacher, to test an installation.

    The precision is fp32, so that every machine computes the same losses.
    """
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        steps=2,
        precision="fp32",
        snapshot_every=1,
        save_every=1,
        data=Data(
            clips=("carphone[0:12]",),
            validation_clip="bigbuckbunny[100:104, 64:128, 96:160]",
            crop_size=16,
            num_frames=7,
            batch_size=1,
        ),
        distillation=_space_time(100),
    )


def demo() -> RunConfig:
    """Return two minutes of live distillation on a CPU, with the plain student at the same steps for comparison.

    A fast machine does all steps in less. The crops are fixed, so that `workbench demo` computes the teacher's outputs
    once, before the training. The precision is fp32, as in the shipped run of the plain student.
    """
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        plain_run="pretrained:live_demo_plain",
        steps=800,
        precision="fp32",
        stop_after_seconds=120,
        snapshot_every=100,
        data=Data(
            crop_size=24,
            num_frames=7,
            batch_size=1,
            moving_share=0.5,
            num_fixed_crops=200,
            augmentations_per_crop=1,
            validation_clip="bigbuckbunny[100:108, 16:144, 128:304]",
        ),
        distillation=_space_time(50),
        optimizer=Optimizer(learning_rate=1e-3, final_learning_rate=1e-5),
    )


def cpu() -> RunConfig:
    """Return a distillation of `vespcn_s` from `basicvsr_s` on the sample clips, some minutes on a CPU."""
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        steps=1000,
        data=Data(crop_size=24, num_frames=7, batch_size=2, moving_share=0.5),
        distillation=_space_time(50),
        optimizer=Optimizer(learning_rate=1e-3, final_learning_rate=5e-6),
    )


def cpu_long() -> RunConfig:
    """Return the shipped distillation: `vespcn_s` from maps and cells of `basicvsr_s`; half an hour on a CPU core.

    The crops are fixed, so the teacher's outputs are computed once, which takes half of that time. docs/data.md lists
    the photographs of the clips; `--data.clips` names others. The settings are those of docs/experiment_plan.md, and
    the shipped run of the plain student shows what the teacher adds.
    """
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        plain_run="pretrained:vespcn_plain",
        steps=1000,
        precision="fp32",
        snapshot_every=200,
        data=Data(
            clips=("data/experiment_motion",),
            validation_clip="bigbuckbunny[100:108, 16:144, 128:304]",
            crop_size=24,
            num_frames=7,
            moving_share=0.8,
            num_fixed_crops=800,
            augmentations_per_crop=4,
        ),
        distillation=_space_time(50),
        optimizer=Optimizer(learning_rate=1e-3, ema_decay=0.99),
        teacher_cache_dir="runs/cache",
    )


def paper() -> RunConfig:
    """Return the distillation of VESPCN from EDVR-L of the STD paper, for a GPU and your own data.

    As in the paper: sum of squares without normalization, one shared ConvLSTM trained until its loss is below 1e-8;
    both networks have 64 channels.
    Not stated in the paper, so ours: both weights, eps, size and stride of the ConvLSTM, features as they are,
    optimizer, learning rates, data, crop, batch size, steps.
    """
    return RunConfig(
        teacher=Network(name="edvr_l", skip="bilinear", weights="edvr_l.safetensors"),
        steps=300_000,
        snapshot_every=5000,
        save_every=1000,
        data=Data(crop_size=64, num_frames=7, batch_size=8),
        distillation=Distillation(
            normalization="none",
            memory_mode="trained_then_frozen",
            memory_channels=32,
            memory_stride=1,
            schedule="constant",
            temporal_weight=0.03,
            standardize=False,
            border_frames=0,
        ),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "smoke": smoke,
    "demo": demo,
    "cpu": cpu,
    "cpu_long": cpu_long,
    "paper": paper,
}


def without_unfit_files(config: RunConfig, preset: RunConfig, given: Collection[str]) -> tuple[RunConfig, list[str]]:
    """Leave out the files of a preset that do not fit the other settings: its flow weights and its plain run.

    The flow weights are for the preset's student, and would replace the flow network in other weights of it. The plain
    run shows the preset's student on the preset's validation clip, and is compared with a distilled student.

    Args:
        config: the preset with changed settings.
        preset: the preset.
        given: dotted names of the settings that were set explicitly; these files are kept.

    Returns:
        The settings, and a sentence on each file that was left out.
    """
    own, usual, notes = flatten(config.to_dict()), flatten(preset.to_dict()), []

    def changed(*names: str) -> str:
        return next((f"{name} {own[name]!r}" for name in names if own[name] != usual[name]), "")

    student = config.student
    if student.flow_weights and "student.flow_weights" not in given:
        reason = changed("student.name", "student.weights")
        if reason:
            notes.append(f"student.flow_weights: {student.flow_weights} of the preset left out, because of {reason}")
            config = replace(config, student=replace(student, flow_weights=""))
    if config.plain_run and "plain_run" not in given:
        names = ("student.name", "student.skip", "data.scale", "data.degradation", "data.validation_clip")
        reason = changed(*names) if config.teacher.name else "no teacher"
        if reason:
            notes.append(f"plain_run: {config.plain_run} of the preset left out, because of {reason}")
            config = replace(config, plain_run="")
    return config, notes
