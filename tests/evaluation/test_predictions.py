"""Scores of frames that another program made."""

import math
import shutil

import numpy as np
import pytest
from PIL import Image

from workbench.errors import DataError, ShapeError, VideoError
from workbench.evaluation.predictions import score_predictions
from workbench.metrics import TEMPORAL


@pytest.fixture
def theirs(tmp_path, data, save):
    """Frames of another program: the ground truth, one level darker in the green of its first clip."""
    folder = tmp_path / "their_net"
    for clip in ("clip_9", "clip_10"):
        frames = np.stack([np.asarray(Image.open(path)) for path in sorted((data / clip).iterdir())])
        frames[..., 1] -= (frames[..., 1] > 0) * (clip == "clip_9")
        save(folder / clip, frames[:, : 48 if clip == "clip_9" else 72, : 64 if clip == "clip_9" else 88])
    return folder


def test_frames_of_another_program_are_scored(theirs, data):
    result = score_predictions(theirs, data, "folders", temporal=True)
    assert (result.network, result.low, result.equal_frames) == ("their_net", "not known", 5)
    assert result.per_clip["clip_9"]["psnr_rgb_db"] == pytest.approx(10 * math.log10(255**2 * 3), abs=0.05)
    assert result.metrics[3:] == list(TEMPORAL)
    assert score_predictions(theirs, data, "folders", clips=["clip_10"], name="x").equal_frames == 5


def test_frames_of_the_uncropped_size_are_cropped_to_the_scale(theirs, data):
    shutil.rmtree(theirs / "clip_9")
    shutil.copytree(data / "clip_9", theirs / "clip_9")  # 67x50, of which 64x48 is scored
    assert score_predictions(theirs, data, "folders").equal_frames == 8


def test_missing_and_surplus_frames_raise(theirs, data):
    (theirs / "clip_10" / "2.png").rename(theirs / "clip_9" / "3.png")
    with pytest.raises(DataError) as refused:
        score_predictions(theirs, data, "folders")
    assert str(refused.value).endswith("set: clip_9: 3 is not a frame of it; clip_10: 2 is missing")
    shutil.rmtree(theirs / "clip_9")
    with pytest.raises(DataError, match=r"clip_9 .*; clip_10: 2 "):
        score_predictions(theirs, data, "folders")
    with pytest.raises(DataError, match="no such folder"):
        score_predictions(theirs / "none", data, "folders")


def test_a_missing_frame_does_not_shift_the_others(theirs, data):
    """The number of images is right, but from the second on each is the next frame."""
    for number in (4, 3, 2):
        (theirs / "clip_10" / f"{number}.png").rename(theirs / "clip_10" / f"{number + 1}.png")
    with pytest.raises(DataError, match=r"clip_10: 2 .*, 5 "):
        score_predictions(theirs, data, "folders")


def test_frames_are_matched_by_number(theirs, data):
    for path in list((theirs / "clip_10").iterdir()):
        path.rename(path.with_name(f"net2_{int(path.stem):06d}_x4.png"))
    assert score_predictions(theirs, data, "folders").equal_frames == 5


def test_another_first_number_raises(theirs, data):
    for number in reversed(range(5)):
        (theirs / "clip_10" / f"{number}.png").rename(theirs / "clip_10" / f"{number + 1}.png")
    with pytest.raises(DataError, match=r"clip_10: 0 .*, 5 .*from 1, .*from 0"):
        score_predictions(theirs, data, "folders")


def test_names_without_numbers_must_be_equal(tmp_path, save):
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    for root in ("truth", "theirs"):
        save(tmp_path / root / "walk", frames)
        for number, name in enumerate(("first", "middle", "last")):
            (tmp_path / root / "walk" / f"{number}.png").rename(tmp_path / root / "walk" / f"{name}.png")
    assert score_predictions(tmp_path / "theirs", tmp_path / "truth", "folders").equal == {"walk": [True] * 3}
    (tmp_path / "theirs" / "walk" / "middle.png").rename(tmp_path / "theirs" / "walk" / "second.png")
    with pytest.raises(DataError, match=r"walk: middle .*, second"):
        score_predictions(tmp_path / "theirs", tmp_path / "truth", "folders")


def test_frames_of_a_video_are_numbered_from_0_or_all_from_1(tmp_path, held, save):
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    folder = tmp_path / "walk"
    save(folder, frames)
    for number in reversed(range(3)):
        (folder / f"{number}.png").rename(folder / f"{number + 1}.png")
    assert score_predictions(tmp_path, held(frames), "folders").equal == {"walk": [True] * 3}
    (folder / "1.png").unlink()
    with pytest.raises(DataError, match=r"walk: 00000000, 00000001 .*, 3 "):
        score_predictions(tmp_path, held(frames), "folders")


def test_a_frame_of_another_size_raises(theirs, data):
    Image.fromarray(np.zeros((72, 84, 3), np.uint8)).save(theirs / "clip_10" / "3.png")
    with pytest.raises(ShapeError, match=r"clip_10, frame 3: .*84x72.* 88x72"):
        score_predictions(theirs, data, "folders")


def test_an_unreadable_image_raises(theirs, data):
    (theirs / "clip_10" / "2.png").write_bytes(b"\x89PNG")
    with pytest.raises(VideoError, match=r"2\.png: not an image"):
        score_predictions(theirs, data, "folders")


def test_images_of_the_scored_frames_are_enough(tmp_path, held, save):
    frames = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    septuplet = held(frames, targets=(3,))
    save(tmp_path / "walk", frames[3:4])
    (tmp_path / "walk" / "0.png").rename(tmp_path / "walk" / "im3.png")
    assert score_predictions(tmp_path, septuplet, "vimeo90k_t").equal == {"walk": [True]}
    save(tmp_path / "all" / "walk", frames)
    assert score_predictions(tmp_path / "all", septuplet, "vimeo90k_t").equal == {"walk": [True]}
    save(tmp_path / "five" / "walk", frames[:3])
    with pytest.raises(DataError, match="walk: 00000003"):
        score_predictions(tmp_path / "five", septuplet, "vimeo90k_t")
