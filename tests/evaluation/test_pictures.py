"""Scoring pictures that another program made."""

import math
import shutil

import numpy as np
import pytest
from PIL import Image

from workbench.errors import DataError, ShapeError, VideoError
from workbench.evaluation.evaluate import score_pictures
from workbench.metrics.scorer import TEMPORAL


@pytest.fixture
def theirs(tmp_path, data, save):
    """What another program made of the set: the truth, one level darker in the green of its first clip."""
    folder = tmp_path / "their_net"
    for clip in ("clip_9", "clip_10"):
        frames = np.stack([np.asarray(Image.open(path)) for path in sorted((data / clip).iterdir())])
        frames[..., 1] -= (frames[..., 1] > 0) * (clip == "clip_9")
        save(folder / clip, frames[:, : 48 if clip == "clip_9" else 72, : 64 if clip == "clip_9" else 88])
    return folder


def test_pictures_of_another_program(theirs, data):
    report = score_pictures(theirs, data, "folders", temporal=True)
    assert (report.network, report.low, report.equal_frames) == ("their_net", "not known", 5)
    assert report.per_clip["clip_9"]["psnr_rgb_db"] == pytest.approx(10 * math.log10(255**2 * 3), abs=0.05)
    assert report.metrics[3:] == list(TEMPORAL)
    assert score_pictures(theirs, data, "folders", clips=["clip_10"], name="x").equal_frames == 5


def test_pictures_of_the_whole_truth_where_it_is_no_multiple(theirs, data):
    shutil.rmtree(theirs / "clip_9")
    shutil.copytree(data / "clip_9", theirs / "clip_9")  # 67x50, of which 64x48 is scored
    assert score_pictures(theirs, data, "folders").equal_frames == 8


def test_pictures_that_do_not_fit(theirs, data):
    (theirs / "clip_10" / "4.png").rename(theirs / "clip_9" / "4.png")
    with pytest.raises(DataError, match=r"not the pictures of set: clip_9 has 4 pictures, want 3 \(4\.png would be fr"):
        score_pictures(theirs, data, "folders")
    with pytest.raises(DataError, match=r"clip_10 has 4 pictures, want 5 \(none for frame 4, counted from 0\)"):
        score_pictures(theirs, data, "folders")
    shutil.rmtree(theirs / "clip_9")
    with pytest.raises(DataError, match="clip_9 is missing; clip_10 has 4"):
        score_pictures(theirs, data, "folders")
    with pytest.raises(DataError, match=r"no such folder; want one folder of pictures a clip"):
        score_pictures(theirs / "none", data, "folders")


def test_a_picture_of_another_size(theirs, data):
    Image.fromarray(np.zeros((72, 84, 3), np.uint8)).save(theirs / "clip_10" / "3.png")
    with pytest.raises(ShapeError, match="clip_10, frame 3: the result is 84x72, the true frame 88x72"):
        score_pictures(theirs, data, "folders")


def test_a_picture_that_cannot_be_read(theirs, data):
    (theirs / "clip_10" / "2.png").write_bytes(b"\x89PNG")
    with pytest.raises(VideoError, match=r"2\.png: not a picture"):
        score_pictures(theirs, data, "folders")


def test_pictures_of_the_frames_that_count_alone(tmp_path, held, save):
    frames = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    septuplet = held(frames, targets=(3,))
    save(tmp_path / "walk", frames[3:4])
    assert score_pictures(tmp_path, septuplet, "vimeo90k_t").equal == {"walk": [True]}
    save(tmp_path / "all" / "walk", frames)
    assert score_pictures(tmp_path / "all", septuplet, "vimeo90k_t").equal == {"walk": [True]}
    save(tmp_path / "five" / "walk", frames[:5])
    with pytest.raises(DataError, match="walk has 5 pictures, want 7 or 1"):
        score_pictures(tmp_path / "five", septuplet, "vimeo90k_t")
