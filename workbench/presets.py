"""Presets: functions that return a :class:`~workbench.config.RunConfig`."""

from __future__ import annotations

from collections.abc import Callable

from workbench.config import Data, Network, Optimizer, RunConfig
from workbench.distillation_config import Distillation, OtherLosses

TEACHER = Network(name="edvr_tiny", weights="pretrained:demo_teacher")
STUDENT = Network(name="vespcn_s")
PLAIN = Network(name="vespcn_s", weights="pretrained:demo_plain")


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
    )


def demo() -> RunConfig:
    """Return two minutes of live distillation on a CPU, with the plain student at the same steps for comparison.

    A fast machine does all steps in less. The precision is fp32, as in the shipped run of the plain student.
    """
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        plain_run="pretrained:live_demo_plain",
        steps=1200,
        precision="fp32",
        stop_after_seconds=120,
        snapshot_every=100,
        data=Data(
            crop_size=24,
            num_frames=7,
            batch_size=1,
            moving_share=0.5,
            validation_clip="bigbuckbunny[100:108, 16:144, 128:304]",
        ),
        optimizer=Optimizer(learning_rate=1e-3),
    )


def cpu() -> RunConfig:
    """Return a distillation of `vespcn_s` from `edvr_tiny` on the sample clips, some minutes on a CPU."""
    return RunConfig(
        student=STUDENT,
        teacher=TEACHER,
        plain=PLAIN,
        steps=1000,
        data=Data(crop_size=24, num_frames=7, batch_size=2, moving_share=0.5),
        optimizer=Optimizer(learning_rate=1e-3, final_learning_rate=5e-6),
    )


def cpu_long() -> RunConfig:
    """Return the shipped distillation: `vespcn_s` from the frames of `edvr_s`; half an hour on a CPU core.

    The loss is the one that helped most (docs/experiment.md); with `--distillation.spatial-weight` and
    `--distillation.temporal-weight` it is space-time distillation. The crops are fixed, so the teacher's outputs are
    computed once, which takes half of that time. The videos are listed in docs/data.md; `--data.clips` names others.
    The precision is fp32, as in docs/experiment.md.
    """
    steps = 1500
    return RunConfig(
        student=STUDENT,
        teacher=Network(name="edvr_s", weights="pretrained:edvr_s"),
        plain=Network(name="vespcn_s", weights="pretrained:vespcn_plain"),
        steps=steps,
        precision="fp32",
        snapshot_every=steps // 5,
        data=Data(
            clips=("data/experiment",),
            num_fixed_crops=600,
            augmentations_per_crop=4,
        ),
        distillation=Distillation(
            spatial_weight=0.0, temporal_weight=0.0, schedule_steps=steps // 20, losses=OtherLosses(output_l1=2.0)
        ),
        optimizer=Optimizer(learning_rate=1e-3),
        teacher_cache_dir="runs/cache",
    )


def paper() -> RunConfig:
    """Return the distillation of VESPCN from EDVR-L of the STD paper, for a GPU and your own data.

    As in the paper: sum of squares without normalization, one shared ConvLSTM trained until its loss is below 1e-8, at
    stride 1, on features that are not standardized; both networks have 64 channels.
    Not stated in the paper, so ours: both weights, eps, the ConvLSTM's size, data, crop, batch size, steps.
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
