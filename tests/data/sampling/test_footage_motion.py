"""Motion of footage against shifts that are known, and crops that are drawn by it."""

import json
import logging
import shutil
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from tests.footage import write_shots
from workbench.cli import main
from workbench.config import RunConfig
from workbench.data.preparation.manifest import MANIFEST, PrepareSettings, read_manifest
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.arrays import open_arrays
from workbench.data.sampling.crops import MAX_TRIES, MIN_MOVING_SHARE, CropSampler, Pair, make_pair
from workbench.data.sampling.footage_motion import CELL, crop_motion, motion_map, summarize_motion
from workbench.data.sampling.pairs import open_pairs
from workbench.errors import ConfigError, DataError


def texture(height, width, seed=0):
    """Soft noise with structure of a few high-resolution pixels, 8 bits."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 5) + cv2.GaussianBlur(noise, (0, 0), 2) / 8
    return cv2.normalize(soft, np.zeros_like(soft), 10, 245, cv2.NORM_MINMAX).astype(np.uint8)


def panned(shift, frames=6, height=128, width=192, seed=0):
    """Return frames that move by a number of high-resolution pixels per frame, half as fast downward."""
    large = texture(height + frames * shift, width + frames * shift, seed)
    return np.stack([large[n * shift // 2 :, n * shift :][:height, :width] for n in range(frames)])


@pytest.mark.parametrize("shift", [0, 2, 4, 8])
def test_the_measured_motion_is_the_known_shift(shift):
    """2 pixels of the high resolution to the right and 1 down are sqrt(5) / 4 of the low one."""
    motion = motion_map(make_pair(panned(shift), scale=4).low)
    assert motion.shape == (5, 4, 6)
    assert motion.dtype == np.float16
    inside = motion[:, 1:-1, 1:-1].astype(float)
    assert inside.mean() == pytest.approx(shift * np.sqrt(1.25) / 4, rel=0.06, abs=0.02)


def test_only_moving_areas_have_motion():
    moving, still = panned(8), panned(0)
    half = np.concatenate((still[:, :, :96], moving[:, :, 96:]), axis=2)
    motion = motion_map(make_pair(half, scale=4).low)[:, 1:-1].astype(float)
    assert motion[:, :, 0].max() < 0.1
    assert motion[:, :, -1].min() > 1


def test_the_motion_of_a_crop_is_the_mean_over_its_pixels():
    rng = np.random.default_rng(0)
    motion = rng.random((6, 3, 4))
    pixels = motion.repeat(CELL, axis=1).repeat(CELL, axis=2)
    for _ in range(50):
        (t, end), (y, down), (x, right) = (np.sort(rng.choice(size + 1, 2, replace=False)) for size in (6, 24, 32))
        place = slice(t, end + 1), slice(y, down), slice(x, right)
        assert crop_motion(motion, *place) == pytest.approx(pixels[t:end, y:down, x:right].mean(), rel=1e-6)


def test_border_cells_are_means_of_their_pixels():
    clip = make_pair(panned(8, height=80, width=108), scale=4).low  # 20 x 27 low-resolution pixels
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]
    whole = [
        np.linalg.norm(cv2.calcOpticalFlowFarneback(*pair, None, 0.5, 3, 15, 3, 5, 1.2, 0), axis=-1)
        for pair in pairwise(grays)
    ]
    motion = motion_map(clip)
    assert motion.shape == (5, 3, 4)
    assert motion[2, 2, 3] == pytest.approx(whole[2][16:, 24:].mean(), rel=1e-3)
    assert motion[0, 1, 0] == pytest.approx(whole[0][8:16, :8].mean(), rel=1e-3)


def test_motion_does_not_depend_on_the_number_of_threads():
    clip, before = make_pair(panned(8), scale=4).low, cv2.getNumThreads()
    try:
        maps = []
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            maps.append(motion_map(clip))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*maps)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (1, 1), (3, 40)])
def test_motion_of_tiny_frames(height, width):
    assert motion_map(np.zeros((2, height, width, 3), np.uint8)).shape == (1, 1, -(-width // CELL))


def test_a_distribution_by_hand():
    cells = np.array([0.0, 0.05, 0.125, 0.2, 0.25, 0.4, 3.0, 5.0], np.float16).reshape(2, 2, 2)
    summary = summarize_motion([cells[:1], cells[1:]])
    assert summary.shares == (0.25, 0.25, 0.25, 0.0, 0.0, 0.25)
    assert summary.moving == 0.5
    assert summary.quartiles == pytest.approx(np.quantile(cells.astype(float).round(3), (0.25, 0.5, 0.75)), abs=1e-3)
    assert summarize_motion([]) is None


# -- crops ----------------------------------------------------------------------------------------------------------

CROP = {"crop_size": 16, "num_frames": 3, "batch_size": 4}


def moves(low):
    """Whether frames of a crop differ: those of still footage are equal."""
    return not (low[:1] == low).all()


def still_and_moving(still_width, moving_width):
    """Two clips of low-resolution frames as wide as that; places in proportion to width - 15."""
    return [
        make_pair(panned(shift, frames=6, height=96, width=4 * width, seed=shift), scale=4)
        for shift, width in ((0, still_width), (8, moving_width))
    ]


def drawn(sampler, steps=150):
    return [moves(low) for step in range(1, steps + 1) for low, _ in sampler.crops(step, range(sampler.batch_size))]


@pytest.mark.parametrize(
    ("widths", "share", "expected"),
    [((31, 31), 0.8, 0.8), ((67, 23), 0.6, 0.6), ((31, 31), 1.0, 1.0), ((31, 31), 0.2, 0.5)],
)
def test_the_share_of_moving_crops_is_the_setting(widths, share, expected):
    """Half, or 8 / 60, of the places move; where more move by themselves than wanted, it stays at that."""
    found = np.array(drawn(CropSampler(still_and_moving(*widths), moving_share=share, **CROP)))
    error = 4 * np.sqrt(expected * (1 - expected) / len(found)) + 0.02  # and what 1,024 places say of the footage
    assert abs(found.mean() - expected) <= error


def test_fixed_crops_have_the_same_share_of_motion():
    pairs = still_and_moving(67, 23)
    sampler = CropSampler(pairs, num_fixed_crops=200, augmentations_per_crop=2, moving_share=0.7, **CROP)
    found = [moves(sampler.fixed_crop(2 * number)[0]) for number in range(200)]
    assert 0.55 <= np.mean(found) <= 0.85  # standard deviation 0.03
    again = CropSampler(pairs, num_fixed_crops=200, augmentations_per_crop=2, moving_share=0.7, seed=9, **CROP)
    for one, other in zip(sampler.fixed_crop(7), again.fixed_crop(7), strict=True):
        assert np.array_equal(one, other)


def test_a_share_of_zero_draws_the_crops_of_earlier_versions(monkeypatch):
    """Draw by draw: the clip, the place in it, the turns; and no motion is measured."""
    monkeypatch.setattr(Pair, "motion", None)
    pairs = still_and_moving(31, 23)
    sampler = CropSampler(pairs, seed=3, moving_share=0.0, **CROP)
    CropSampler(pairs, crop_size=16, num_frames=1, batch_size=4, moving_share=0.5).at(1)  # one frame has no motion
    up_to = np.cumsum([4 * 9 * 16, 4 * 9 * 8]) / (4 * 9 * 24)
    for step in range(1, 20):
        for index, (low, _) in enumerate(sampler.crops(step, range(4))):
            rng = np.random.default_rng((3, step, index))
            pair = pairs[int(np.searchsorted(up_to, rng.random(), side="right"))]
            t, y, x = (
                int(rng.integers(size - part + 1)) for size, part in zip(pair.low_shape, (3, 16, 16), strict=True)
            )
            wanted = pair.low[t : t + 3, y : y + 16, x : x + 16]
            rows, columns, transpose, reverse = rng.integers(2, size=4)
            wanted = wanted[:, ::-1] if rows else wanted
            wanted = wanted[:, :, ::-1] if columns else wanted
            wanted = wanted.transpose(0, 2, 1, 3) if transpose else wanted
            assert np.array_equal(low, wanted[::-1] if reverse else wanted)


def test_a_batch_depends_on_seed_and_step_only():
    pairs = still_and_moving(67, 23)
    whole = list(CropSampler(pairs, seed=1, moving_share=0.7, **CROP).after(0, 6))
    for workers in (0, 1, 2):
        resumed = CropSampler(pairs, seed=1, moving_share=0.7, **CROP).after(3, 6, workers=workers)
        for one, other in zip(whole[3:], resumed, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_too_little_motion_logs_a_warning_and_the_best_position_is_used(caplog):
    """Nothing moves more than 50 pixels: the crops come from the clip that moves at all."""
    sampler = CropSampler(still_and_moving(31, 31), moving_share=1.0, moving_above=50, **CROP)
    assert all(drawn(sampler, 5))
    assert "data.moving_share: want 1 of the crops to move more than 50 " in caplog.text
    assert f"got footage of which 0.0 % does; the most moving of {MAX_TRIES} positions" in caplog.text
    assert "set data.moving_share to 0" in caplog.text


def test_enough_motion_logs_no_warning(caplog):
    with caplog.at_level(logging.INFO):
        CropSampler(still_and_moving(31, 31), moving_share=0.9, **CROP)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert 0 < MIN_MOVING_SHARE < 0.05


# -- prepared footage -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    write_shots(root / "shots")
    for form, crop in (("arrays", "32x48"), ("folders", "48x48"), ("shards", "48x48")):
        settings = PrepareSettings(format=form, downscale="1", tile_size=crop, validation=("cliff",))
        prepare([root / "shots"], root / form, settings)
    return root


@pytest.mark.parametrize("form", ["arrays", "folders"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_stored_motion_equals_measured_motion(root, form, split):
    pairs = open_pairs(str(root / form), scale=4, split=split)
    assert (
        len(pairs) == {"arrays": {"train": 6, "validation": 2}, "folders": {"train": 5, "validation": 1}}[form][split]
    )
    for pair in pairs:
        assert pair.stored_motion is not None
        whole = [slice(0, size) for size in pair.low_shape]
        assert np.array_equal(pair.motion(), motion_map(pair.cut(*whole)[0]))


def test_a_set_of_an_earlier_version_is_measured(root, tmp_path):
    shutil.copytree(root / "arrays", tmp_path / "set")
    said = json.loads((tmp_path / "set" / MANIFEST).read_text())
    del said["motion"]
    for source in said["sources"]:
        del source["motion"]
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(said))
    shutil.rmtree(tmp_path / "set" / "motion")
    for old, new in zip(open_arrays(tmp_path / "set"), open_arrays(root / "arrays"), strict=True):
        assert old.stored_motion is None
        assert np.array_equal(old.motion(), new.motion())


@pytest.mark.parametrize("form", ["arrays", "folders", "shards"])
def test_the_manifest_has_the_distribution(root, form):
    manifest = read_manifest(root / form)
    maps = {source.name: np.load(root / form / source.motion_file) for source in manifest.sources}
    assert manifest.motion == summarize_motion([maps["alley"], maps["beach"]])
    assert {source.name: source.motion for source in manifest.sources} == {
        name: summarize_motion([motion]) for name, motion in maps.items()
    }
    said = json.loads((root / form / MANIFEST).read_text())["motion"]
    assert said.keys() == {"quartiles", "shares"}
    assert sum(said["shares"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "pattern"), [(None, "No such file"), (b"\x93NUMPY", "EOF"), ("short", "from map 0")]
)
def test_a_damaged_file_raises_and_prepare_repairs_it(root, tmp_path, content, pattern):
    shutil.copytree(root / "arrays", tmp_path / "set")
    path = tmp_path / "set" / "motion" / "alley.npy"
    whole = path.read_bytes()
    if content is None:
        path.unlink()
    elif content == "short":
        np.save(path, np.zeros((2, 2, 1), np.float16))
    else:
        path.write_bytes(content)
    pairs = open_arrays(tmp_path / "set")
    with pytest.raises(DataError, match=rf"alley\.npy: .*{pattern}.*`workbench prepare` again"):
        pairs[0].motion()
    settings = PrepareSettings(format="arrays", downscale="1", tile_size="32x48", validation=("cliff",))
    prepare([root / "shots"], tmp_path / "set", settings)
    assert path.read_bytes() == whole


def test_prepare_prints_the_distribution(root, tmp_path, capsys):
    assert main(["prepare", str(root / "shots"), "--out", str(tmp_path / "set"), "--downscale", "1"]) == 0
    shown = capsys.readouterr().out
    motion = read_manifest(tmp_path / "set").motion
    assert "low-resolution pixels a frame" in shown
    assert f"{motion.moving:.0%} move more than 0.25" in shown
    assert f"half less than {motion.quartiles[1]:.2f}" in shown
    for share in motion.shares:
        assert f"{share:.0%}" in shown


# -- settings -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "pattern"),
    [
        ({"moving_share": 1.5}, r"data\.moving_share: want 0 to 1, got 1\.5"),
        ({"moving_above": -1.0}, r"data\.moving_above: want 0 or more, got -1"),
    ],
)
def test_invalid_settings_raise(data, pattern):
    with pytest.raises(ConfigError, match=pattern):
        RunConfig.from_dict({"data": data})
