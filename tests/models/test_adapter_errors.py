"""Modules and settings that cannot be adapted."""

import pytest
import torch
from torch import nn

from tests.models.public_modules import ClipModule, ImageModule, WindowModule
from workbench.errors import ConfigError, ShapeError
from workbench.models.adapter import adapt


class Returns(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, image):
        return self.made(image)


def test_another_scale_raises():
    with pytest.raises(ConfigError, match=r"\(2, 3, 64, 64\).*\(2, 3, 16, 16\).* got \(2, 3, 32, 32\)"):
        adapt(ImageModule(scale=2), takes="image", scale=4)
    with pytest.raises(ConfigError, match="scale: want 2, 3 or 4, got 5"):
        adapt(ImageModule(scale=2), takes="image", scale=5)


def test_another_number_of_frames_raises():
    with pytest.raises(ConfigError, match=r"\(2, 5, 3, 16, 16\): .*num_frames"):
        adapt(WindowModule(frames=3), takes="window", num_frames=5, scale=2)
    with pytest.raises(ConfigError, match=r"window: .*odd.*got 4"):
        adapt(WindowModule(frames=4), takes="window", num_frames=4, scale=2)
    with pytest.raises(ConfigError, match="num_frames: want 1 for clips, got 3"):
        adapt(ClipModule(), takes="clip", num_frames=3, scale=2)


def test_another_kind_of_input_raises():
    with pytest.raises(ConfigError, match=r"\(2, 1, 3, 16, 16\)"):
        adapt(ImageModule(), takes="window", scale=2)
    with pytest.raises(ConfigError, match=r"\(2, 3, 16, 16\)"):
        adapt(WindowModule(), takes="image", scale=2)
    with pytest.raises(ConfigError, match=r"\(2, 3, 3, 16, 16\)"):
        adapt(ImageModule(), takes="clip", scale=2)
    with pytest.raises(ConfigError, match=r"takes: .*got 'video'"):
        adapt(ImageModule(), takes="video", scale=2)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda image: (image, None), "want one tensor .*got tuple"),
        (lambda image: image.numpy(), "want one tensor .*got ndarray"),
        (lambda image: image[:, :1].repeat(1, 1, 2, 2), r"want output \(2, 3, 32, 32\).* got \(2, 1, 32, 32\)"),
    ],
)
def test_outputs_that_are_no_images_raise(made, message):
    with pytest.raises(ConfigError, match=message):
        adapt(Returns(made), takes="image", scale=2)


def test_an_unknown_layer_raises():
    with pytest.raises(ConfigError, match=r"features: .*'tial.1'.*'tail.1'.*: entry"):
        adapt(ImageModule(), takes="image", scale=2, features="tial.1")
    with pytest.raises(ConfigError, match=r"aligned: .*'zzz'.*: entry, widen, tail"):
        adapt(ImageModule(), takes="image", scale=2, aligned="zzz")


def test_a_layer_with_another_input_size_raises():
    with pytest.raises(ConfigError, match=r"features: .*widen is \(2, 8, 16, 16\).* C, 32, 32\)"):
        adapt(ImageModule(), takes="image", scale=2, features="widen")
    with pytest.raises(ConfigError, match=r"aligned: .*tail is \(2, 8, 32, 32\).* C, 16, 16\)"):
        adapt(ImageModule(), takes="image", scale=2, features="tail", aligned="tail")


def test_a_layer_that_does_not_run_once_per_frame_raises():
    module = ImageModule()
    module.spare = nn.Conv2d(8, 3, 1)
    with pytest.raises(ConfigError, match=r"features: .*spare"):
        adapt(module, takes="image", scale=2, features="spare")
    twice = nn.Sequential(ImageModule(), nn.Conv2d(3, 3, 1))
    twice.append(twice[1])
    with pytest.raises(ConfigError, match=r"features: .*layer 1.* 2 frames.* 2 times"):
        adapt(twice, takes="image", scale=2, features="1")


def test_unavailable_features_raise():
    clip = torch.rand(1, 2, 3, 6, 6)
    with pytest.raises(ConfigError, match="features"):
        adapt(ImageModule(), takes="image", scale=2)(clip, return_features="hr")
    with pytest.raises(ConfigError, match=r"want 'hr'.*got 'shuffle'"):
        adapt(ImageModule(), takes="image", scale=2, features="tail")(clip, return_features="shuffle")


def test_another_output_size_after_adapting_raises():
    """The output may change after the probe."""
    module = Returns(lambda image: image.repeat(1, 1, 2, 2))
    network = adapt(module, takes="image", scale=2)
    module.made = lambda image: image
    with pytest.raises(ShapeError, match=r"output: want \(2, 3, 12, 12\), got \(2, 3, 6, 6\)"):
        network(torch.rand(1, 2, 3, 6, 6))


def test_a_compiled_module_raises():
    """Without compiling: the wrapper is recognized by the module it holds."""
    module = nn.Module()
    module._orig_mod = ImageModule()
    with pytest.raises(ConfigError, match=r"module: .*compiled"):
        adapt(module, takes="image", scale=2, features="tail")


def test_an_invalid_value_range_raises():
    with pytest.raises(ConfigError, match=r"value_range: .*got \(1, 0\)"):
        adapt(ImageModule(), takes="image", scale=2, value_range=(1, 0))


def test_invalid_clips_raise():
    with pytest.raises(ShapeError, match=r"want RGB in \[0, 1\]"):
        adapt(ClipModule(), takes="clip", scale=2).eval()(torch.rand(1, 2, 3, 6, 6) * 255)
