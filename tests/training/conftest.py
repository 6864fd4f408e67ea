"""Frames, a teacher and settings so small that a whole run takes about a second; a finished run."""

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.config import Data, Network, RunConfig
from workbench.distillation_config import Distillation
from workbench.models.weights import save
from workbench.models.zoo import build
from workbench.training.worker import prepare_run, work


def moving_waves(frames=10, height=64, width=80):
    """Return frames from a formula that move by 1.5 pixels per frame."""
    t, y, x = np.mgrid[:frames, :height, :width].astype(float)
    waves = [np.sin((x + 1.5 * t) / 3) + np.cos(y / 4), np.sin((x + y) / 5 - t), np.cos((x - 1.5 * t) * y / 150)]
    return (np.stack(waves, axis=-1) * 60 + 128).clip(0, 255).round().astype(np.uint8)


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """Write ten frames of 80x64 to a folder of images."""
    folder = tmp_path_factory.mktemp("footage") / "waves"
    folder.mkdir()
    for index, frame in enumerate(moving_waves()):
        Image.fromarray(frame).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="session")
def teacher_weights(tmp_path_factory):
    """Save an EDVR with random weights; a test needs no better teacher."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "edvr_tiny.safetensors"
    save(build("edvr_tiny", skip="bicubic"), path)
    return path


@pytest.fixture(scope="session")
def small(footage, teacher_weights):
    """Return settings of VESPCN distilled from EDVR: all terms, 8 steps, checkpoints every 2, snapshots every 4."""
    return RunConfig(
        precision="fp32",
        memory_format="channels_last",
        student=Network(name="vespcn"),
        teacher=Network(name="edvr_tiny", weights=str(teacher_weights)),
        data=Data(
            clips=(f"{footage}[0:6]",),
            validation_clip=f"{footage}[6:9, 0:32, 0:48]",
            crop_size=8,
            num_frames=3,
            batch_size=1,
            augment=True,
        ),
        distillation=Distillation(memory_mode="trained", memory_channels=2, schedule_steps=4),
        steps=8,
        snapshot_every=4,
        save_every=2,
        threads=1,
    )


@pytest.fixture
def run(small, tmp_path):
    """Return a run of the settings ``small`` that has not started."""
    return prepare_run(tmp_path / "demo", small)


@pytest.fixture(scope="session")
def whole(small, tmp_path_factory):
    """Return a finished run of the settings ``small`` that nothing interrupted."""
    run = prepare_run(tmp_path_factory.mktemp("runs") / "whole", small)
    assert work(run) == "finished"
    return run


@pytest.fixture(scope="session", autouse=True)
def _ordinary_memory():
    """Keep workers from changing malloc settings in the process of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_KEEP_MEMORY", "0")
        yield
