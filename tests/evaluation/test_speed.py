"""Time and memory: no figure is known beforehand, but what they are figures of is."""

import time

import pytest
import torch
from torch import nn

from workbench.errors import ConfigError
from workbench.evaluation.speed import measure
from workbench.models.video_sr import NetworkInfo, Upscaled, VideoSR
from workbench.models.zoo import build


class Known(VideoSR):
    """Sleeps for a known time a frame and holds a known amount of memory on the way."""

    info = NetworkInfo(paper="none", year=2000, role="both")

    def __init__(self, seconds=0.0):
        super().__init__(scale=2)
        self.weight = nn.Parameter(torch.zeros(1000))
        self.seconds, self.calls, self.dtypes = seconds, [], []

    def forward(self, clip, return_features=None):
        self.calls.append((tuple(clip.shape), self.training))
        self.dtypes.append((torch.zeros(1, 1) @ torch.zeros(1, 1)).dtype)
        time.sleep(self.seconds * clip.shape[1])
        large = torch.ones(1_000_000)
        small = large[:10].clone()
        del large
        again = torch.ones(500_000) + small[0]
        del again
        batch, frames, _, height, width = clip.shape
        return Upscaled(torch.zeros(batch, frames, 3, 2 * height, 2 * width))


def test_peak_memory_is_the_sum_of_live_tensors():
    speed = measure(Known(), height=4, width=6, frames=2, rounds=1)
    held = 1000 * 4 + 2 * 3 * 4 * 6 * 4  # weights, clip
    assert speed.peak_bytes == pytest.approx(held + 4_000_000 + 40, abs=200)  # + the largest block and ten numbers


def test_time_is_per_frame_without_the_first_pass():
    network = Known(seconds=0.02).train()
    speed = measure(network, height=4, width=6, frames=3, rounds=2)
    assert 0.02 <= speed.fastest <= speed.seconds_per_frame <= speed.slowest
    assert len(network.calls) == 1 + 2 + 1  # warm-up, rounds, memory
    assert set(network.calls) == {((1, 3, 3, 4, 6), False)}
    assert network.training


def test_conditions_of_the_measurement_are_recorded():
    speed = measure(build("bicubic"), height=4, width=6, frames=2, rounds=2)
    assert (speed.frames, speed.height, speed.width, speed.rounds) == (2, 4, 6, 2)
    assert speed.threads == torch.get_num_threads()
    assert "6x4 in, clip of 2 frames, fp32, cpu" in speed.conditions
    assert "median of 2 rounds" in speed.conditions
    assert speed.to_dict()["precision"] == "fp32"


def test_precision_changes_the_type_of_products():
    network = Known()
    assert measure(network, height=2, width=2, frames=1, rounds=1, precision="bf16").precision == "bf16"
    assert set(network.dtypes) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"frames": 0}, "frames: want 1 or more, got 0"),
        ({"rounds": 0}, "rounds: want 1 or more"),
        ({"height": -1}, "height: want 1 or more"),
        ({"precision": "int8"}, "precision: want fp32, bf16, fp16, got 'int8'"),
    ],
)
def test_unsupported_measurements_raise(settings, pattern):
    with pytest.raises(ConfigError, match=pattern):
        measure(build("bicubic"), **settings)
