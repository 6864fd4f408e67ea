import subprocess
import sys

import numpy as np
import pytest

from workbench.data.datasets.samples import sample
from workbench.errors import ShapeError
from workbench.imaging import gray
from workbench.metrics import warping
from workbench.metrics.warping import Motion, dis_flow, motion, motions, occluded, step_warping_error, warping_error


def texture(shift=(0, 0), height=48, width=64, seed=0):
    """Smooth noise with ``shift`` (rows, columns) pixels of motion, cut out of something larger."""
    random = np.random.default_rng(seed)
    large = random.normal(size=(height + 40, width + 40, 3))
    for axis in (0, 1):
        for _ in range(6):
            large = (np.roll(large, 1, axis) + 2 * large + np.roll(large, -1, axis)) / 4
    large = 128 + 100 * large / np.abs(large).max()
    rows, columns = 20 - shift[0], 20 - shift[1]
    return large[rows : rows + height, columns : columns + width].astype(np.uint8)


def bilinear(image, y, x):
    """The value of ``image (H, W, C)`` between its pixels; beyond the border, the border."""
    height, width = image.shape[:2]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    return [
        (1 - v) * ((1 - u) * image[top, left, c] + u * image[top, right, c])
        + v * ((1 - u) * image[below, left, c] + u * image[below, right, c])
        for c in range(image.shape[2])
    ]


def slow_occluded(forward, backward):
    height, width = forward.shape[:2]
    lost = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            u, v = map(float, forward[y, x])
            back_u, back_v = bilinear(backward.astype(float), y + v, x + u)
            length, back_length = u * u + v * v, back_u * back_u + back_v * back_v
            there_and_back = (u + back_u) ** 2 + (v + back_v) ** 2
            slope = 0.0
            for component, value in enumerate((u, v)):
                if x + 1 < width:
                    slope += (float(forward[y, x + 1, component]) - value) ** 2
                if y + 1 < height:
                    slope += (float(forward[y + 1, x, component]) - value) ** 2
            lost[y, x] = there_and_back > 0.01 * (length + back_length) + 0.5 or slope > 0.01 * length + 0.002
    return lost


def slow_error(before, after, forward, lost):
    total = counted = 0
    for y, x in np.ndindex(lost.shape):
        if lost[y, x]:
            continue
        came = bilinear(after / 255, y + float(forward[y, x, 1]), x + float(forward[y, x, 0]))
        total += sum((came[c] - before[y, x, c] / 255) ** 2 for c in range(3))
        counted += 3
    return total / (counted or lost.size * 3)


def flows(seed, height=13, width=17):
    """Two smooth flows that nearly undo each other, with a patch that moves on its own and one that is lost."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    forward = np.stack([1.3 + columns / 60 + rows / 90, -0.7 + rows / 70], axis=-1)
    backward = -forward + random.normal(0, 0.05, forward.shape)
    forward[3:6, 4:9] += (2.5, 1.0)
    backward[8:, 10:] += (1.5, -1.0)
    return forward.astype(np.float32), backward.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_occlusion_equals_a_slow_reference(seed):
    forward, backward = flows(seed)
    wanted = slow_occluded(forward, backward)
    assert 0.1 < wanted.mean() < 0.9
    assert np.array_equal(occluded(forward, backward), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_the_warping_error_equals_a_slow_reference(seed):
    random = np.random.default_rng(seed)
    before, after = random.integers(0, 256, (2, 13, 17, 3)).astype(np.uint8)
    forward, backward = flows(seed)
    lost = occluded(forward, backward)
    wanted = slow_error(before, after, forward, lost)
    assert step_warping_error(before, after, Motion(forward, ~lost)) == pytest.approx(wanted, rel=1e-5)


def test_the_metric_on_real_frames_equals_a_slow_reference():
    clip = sample("carphone", frames=3).frames[:, :40, :48]
    blurred = (np.roll(clip.astype(int), 1, axis=2) + clip) // 2
    frames = blurred.astype(np.uint8)
    wanted = []
    for t in range(2):
        there = dis_flow(gray(clip[t]), gray(clip[t + 1]))
        back = dis_flow(gray(clip[t + 1]), gray(clip[t]))
        wanted.append(slow_error(frames[t], frames[t + 1], there, slow_occluded(there, back)))
    curve = warping_error(frames, clip)
    assert np.isnan(curve[0])
    assert curve[1:] == pytest.approx(wanted, rel=1e-5)
    assert min(wanted) > 0


def test_by_hand():
    """Everything moves one pixel to the right, and grows 51 levels (0.2) brighter in one of three channels."""
    before = np.zeros((4, 5, 3), np.uint8)
    before[..., 1] = np.arange(5) * 10
    after = np.roll(before, 1, axis=1)
    after[..., 2] = 51
    step = Motion(np.full((4, 5, 2), (1, 0), np.float32), np.ones((4, 5), bool))
    step.visible[:, -1] = False  # what leaves the image
    assert step_warping_error(before, after, step) == pytest.approx(0.2**2 / 3, rel=1e-5)


def test_frames_without_visible_pixels_have_no_error():
    before, after = texture(), texture(seed=1)
    hidden = Motion(np.zeros((48, 64, 2), np.float32), np.zeros((48, 64), bool))
    assert step_warping_error(before, after, hidden) == 0


def test_magnitudes_are_squared():
    """0.6 there and not back: 0.36 is below 0.5 + 0.0036; not squared, 0.6 would be above 0.5 + 0.006."""
    still, little = np.zeros((6, 6, 2)), np.zeros((6, 6, 2))
    little[..., 0] = 0.6
    assert not occluded(still, little).any()
    little[..., 0] = 0.72  # 0.5184 against 0.505184
    assert occluded(still, little).all()


def test_motion_boundaries_are_masked():
    forward = np.zeros((6, 8, 2))
    forward[:, 4:, 1] = 0.1  # its squared step, 0.01, is above 0.002
    lost = occluded(forward, -forward)
    assert lost[:, 3].all()
    assert not np.delete(lost, 3, axis=1).any()


def test_flow_of_a_shift_is_the_shift():
    flow = dis_flow(gray(texture()), gray(texture(shift=(1, 2))))
    assert (flow.shape, flow.dtype) == ((48, 64, 2), np.float32)
    assert np.median(flow[8:-8, 8:-8], axis=(0, 1)) == pytest.approx((2, 1), abs=0.15)


def test_a_clip_that_follows_the_motion_has_a_small_error_and_one_that_flickers_a_large_one():
    clip = np.stack([texture(shift=(0, t)) for t in range(3)])
    flicker = clip.copy()
    flicker[1] += 20
    floor = warping_error(clip, clip)[1:]
    assert floor.max() < 1e-3
    assert warping_error(flicker, clip)[1:].min() > 5 * floor.max()
    moved = motion(clip[0], clip[1])
    assert moved.visible[5:-5, 5:-5].mean() > 0.9


def test_the_motion_of_the_ground_truth_can_be_reused(monkeypatch):
    clip = np.stack([texture(shift=(0, t)) for t in range(3)])
    known = list(motions(clip))
    wanted = warping_error(clip[::-1], clip)
    monkeypatch.setattr(warping, "motion", None)
    assert np.array_equal(warping_error(clip[::-1], clip, steps=known), wanted, equal_nan=True)
    with pytest.raises(ShapeError, match=r"steps: .*64x48"):
        warping_error(clip, clip, steps=known[1:])


def test_a_single_frame_has_no_value():
    clip = texture()[None]
    assert np.isnan(warping_error(clip, clip)).tolist() == [True]


def test_sizes_at_which_the_library_reads_out_of_bounds():
    """Low, wide images end the process there, not just the test; so this runs in one of its own."""
    source = (
        "import numpy as np; from workbench.metrics.warping import dis_flow\n"
        "for height, width in ((1, 1), (3, 90), (8, 64), (11, 64), (15, 40), (12, 1000), (90, 3), (31, 320)):\n"
        "    gray = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)\n"
        "    assert dis_flow(gray, np.roll(gray, 1, 1)).shape == (height, width, 2)\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_invalid_input_raises():
    clip = np.stack([texture()] * 2)
    with pytest.raises(ShapeError, match=r"reference: .*expected"):
        warping_error(clip, clip[:, 1:])
    with pytest.raises(ShapeError, match="uint8"):
        warping_error(clip / 255, clip)
    with pytest.raises(ShapeError, match="gray_after"):
        dis_flow(gray(clip[0]), gray(clip[0])[1:])
    with pytest.raises(ShapeError, match=r"backward"):
        occluded(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)))
