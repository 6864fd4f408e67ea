"""Animation of a run, which `tools/animation.py` draws for README."""

import importlib.util
import shutil

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.conftest import ROOT
from workbench.runs import locate_run

SPEC = importlib.util.spec_from_file_location("animation", ROOT / "tools" / "animation.py")
animation = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(animation)


def images_and_durations(path):
    with Image.open(path) as image:
        images = [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(image)]
        durations = []
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            durations.append(image.info["duration"])
        return images, durations


def test_the_committed_animation_shows_the_shipped_run():
    images, durations = images_and_durations(animation.OUT)
    drawn = animation.draw_run("pretrained:vespcn_std")
    assert len(images) == len(drawn), "draw it again: python tools/animation.py"
    for image, expected in zip(images, drawn, strict=True):
        assert np.abs(image.astype(int) - np.asarray(expected)).mean() < 1.6, "draw it again: python tools/animation.py"
    assert images[0].shape[1] == animation.WIDTH
    assert 6000 <= sum(durations) <= 12000
    assert animation.OUT.stat().st_size < 1_000_000


def test_another_run_is_drawn_from_its_folder(tmp_path):
    folder = shutil.copytree(locate_run("pretrained:vespcn_std").folder, tmp_path / "mine")
    animation.main(str(folder), tmp_path / "other.webp")
    images, _ = images_and_durations(tmp_path / "other.webp")
    assert len(images) == len(locate_run(str(folder)).snapshots())
    column = images[0].shape[1] // 3
    first, last = (image[animation.HEADER + animation.TITLES :].astype(float) for image in (images[0], images[-1]))
    changes = [np.abs(last - first)[:, i * column : (i + 1) * column].mean() for i in range(3)]
    assert changes[2] > 5 * changes[0]  # the student learns, the teacher does not
    assert changes[0] < 2  # rounding of lossy images


def test_a_run_without_a_plain_student_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="live_demo_plain"):
        animation.main("pretrained:live_demo_plain", tmp_path / "none.webp")
