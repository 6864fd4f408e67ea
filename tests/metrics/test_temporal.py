import cv2
import numpy as np
import pytest

from workbench.data.datasets.samples import sample
from workbench.errors import ConfigError, ShapeError
from workbench.metrics import temporal
from workbench.metrics.temporal import farneback_flow, flow_distance, mae, t_diff, temporal_profile, tof


def blobs(frames=4, shift=0, height=64, width=80):
    """A textured image that moves ``shift`` pixels to the right each frame, without a seam in sight."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    values = []
    for t in range(frames):
        x = columns - shift * t
        values.append(128 + 45 * np.sin(x / 5) * np.cos(rows / 6) + 45 * np.sin((x + 2 * rows) / 11))
    return np.repeat(np.array(values)[..., None], 3, axis=-1).astype(np.uint8)


def test_t_diff_by_hand():
    """Gray pixels: luma moves 219 / 255 of a level for each level."""
    reference = np.zeros((4, 2, 2, 3), np.uint8)
    reference[2] = 10  # the truth brightens by 10, then darkens by 10
    frames = np.full((4, 2, 2, 3), 50, np.uint8)
    frames[1, 0] = 90  # the clip flickers in half of its pixels in frame 1, and misses the brightening
    curve = t_diff(frames, reference)
    assert np.isnan(curve[0])
    half, level = 0.5, 219 / 255
    wanted = [half * 40, half * 50 + half * 10, 10]
    assert curve[1:] == pytest.approx([value * level for value in wanted])


def test_t_diff_ignores_constant_errors():
    reference = blobs(shift=2)
    assert t_diff(reference, reference)[1:].tolist() == [0, 0, 0]
    darker = (reference * 0.0 + 7).astype(np.uint8)
    constant_error = reference - 5
    assert t_diff(constant_error, reference)[1:] == pytest.approx([0, 0, 0], abs=1e-12)
    assert t_diff(darker, reference)[1:].min() > 1


def test_t_diff_measures_changing_noise_only():
    reference = blobs()
    noise = np.random.default_rng(0).integers(-9, 10, reference.shape)
    flickering = (reference + noise).clip(0, 255).astype(np.uint8)
    still = (reference + noise[:1]).clip(0, 255).astype(np.uint8)
    assert t_diff(still, reference)[1:].max() < 1e-12
    assert t_diff(flickering, reference)[1:].min() > 2


def test_flow_of_a_shift_is_the_shift():
    steps = farneback_flow(blobs(shift=2))
    assert steps.shape == (3, 64, 80, 2)
    assert steps.dtype == np.float32
    inside = steps[:, 12:-12, 12:-12]
    assert np.median(inside[..., 0]) == pytest.approx(2, abs=0.1)
    assert np.median(inside[..., 1]) == pytest.approx(0, abs=0.1)


def test_tof_of_equal_clips_is_zero():
    clip = blobs(shift=1)
    curve = tof(clip, clip)
    assert np.isnan(curve[0])
    assert curve[1:].tolist() == [0, 0, 0]


def test_tof_is_the_length_of_the_difference():
    """By the definition, from the two flows."""
    frames, reference = blobs(shift=2), blobs(shift=0)
    difference = farneback_flow(frames).astype(float) - farneback_flow(reference)
    wanted = np.sqrt((difference**2).sum(axis=-1)).mean(axis=(1, 2))
    assert tof(frames, reference)[1:] == pytest.approx(wanted, rel=1e-5)
    assert 1 < wanted.mean() < 2.5  # a still clip against one that moves 2 pixels a frame


def slow_distance(ours, true):
    """Mean length of the difference, pixel by pixel in Python floats."""
    height, width = ours.shape[:2]
    lengths = []
    for y in range(height):
        for x in range(width):
            u, v = (float(ours[y, x, k]) - float(true[y, x, k]) for k in (0, 1))
            lengths.append((u * u + v * v) ** 0.5)
    return sum(lengths) / len(lengths)


def test_the_flow_distance_equals_a_slow_reference():
    ours, true = np.random.default_rng(0).normal(0, 3, (2, 7, 9, 2)).astype(np.float32)
    assert flow_distance(ours, true) == pytest.approx(slow_distance(ours, true), rel=1e-6)
    by_hand = np.zeros((1, 2, 2), np.float32)
    by_hand[0, 1] = (3, 4)
    assert flow_distance(by_hand, np.zeros_like(by_hand)) == 2.5  # of 0 and 5


def test_tof_on_tiny_frames_equals_a_slow_reference():
    """Gray, Farneback with the settings of the definition written out, and Python for the rest."""

    def farneback(before, after):
        a, b = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after))
        return cv2.calcOpticalFlowFarneback(
            a, b, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
        )

    frames, reference = blobs(frames=3, shift=2, height=20, width=24), blobs(frames=3, shift=1, height=20, width=24)
    wanted = [slow_distance(farneback(*frames[t : t + 2]), farneback(*reference[t : t + 2])) for t in range(2)]
    assert tof(frames, reference)[1:] == pytest.approx(wanted, rel=1e-6)


def test_the_flow_of_the_ground_truth_can_be_reused(monkeypatch):
    frames, reference = blobs(shift=2), blobs(shift=1)
    wanted, known = tof(frames, reference), farneback_flow(reference)
    seen = []
    steps = temporal._flow_steps
    monkeypatch.setattr(temporal, "_flow_steps", lambda clip: seen.append(clip is reference) or steps(clip))
    assert np.array_equal(tof(frames, reference, reference_flow=known), wanted, equal_nan=True)
    assert seen == [False]
    with pytest.raises(ShapeError, match=r"reference_flow: .*\(2, 64, 80, 2\).*\(3, 64, 80, 2\)"):
        tof(frames, reference, reference_flow=known[1:])


def test_tof_of_a_dropped_frame_is_larger():
    clip = sample("carphone", frames=8).frames
    stuck = clip.copy()
    stuck[4] = stuck[3]
    curve = tof(stuck, clip)
    assert curve[[1, 2, 3, 6, 7]].max() == 0
    assert curve[4:6].min() > 0


def test_a_single_frame_has_no_value():
    clip = blobs(frames=1)
    assert np.isnan(t_diff(clip, clip)).tolist() == [True]
    assert np.isnan(tof(clip, clip)).tolist() == [True]
    assert farneback_flow(clip).shape == (0, 64, 80, 2)


@pytest.mark.parametrize("metric", [t_diff, tof])
def test_invalid_input_raises(metric):
    with pytest.raises(ShapeError, match=r"reference: .*expected"):
        metric(blobs(frames=3), blobs(frames=4))
    with pytest.raises(ShapeError, match="uint8"):
        metric(blobs() / 255, blobs())


def test_a_profile_is_one_row_of_every_frame():
    clip = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    assert np.array_equal(temporal_profile(clip, row=1), np.stack([frame[1] for frame in clip]))
    assert np.array_equal(temporal_profile(clip), temporal_profile(clip, row=3))
    assert np.array_equal(temporal_profile(clip, row=-1), temporal_profile(clip, row=5))
    assert temporal_profile(clip).base is None  # a copy: the clip can go


def test_mae_by_hand():
    reference = np.zeros((2, 3, 4, 3), np.uint8)
    frames = reference.copy()
    frames[0, 1] = 6  # one row of three
    frames[1, 2, 0, 0] = 36  # one number of 36
    assert mae(frames, reference).tolist() == [2, 1]
    assert mae(reference, frames).tolist() == [2, 1]  # 8-bit numbers do not wrap around


def test_a_profile_out_of_range_raises():
    clip = blobs()
    with pytest.raises(ConfigError, match=r"row: .*64.*63"):
        temporal_profile(clip, row=64)
    with pytest.raises(ShapeError, match=r"reference: .*expected"):
        mae(clip, clip[1:])
