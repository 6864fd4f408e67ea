"""Synthetic camera motion: the flow is exact, and the clips contain what single frames do not."""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from workbench.data.degradation.families import DEGRADATIONS, degrade
from workbench.data.sampling import motion
from workbench.data.sampling.file_state import FileState
from workbench.data.sampling.motion import (
    MIN_DOWNSAMPLING,
    CameraPath,
    Layer,
    MotionSampler,
    MotionSettings,
    compose,
    draw_path,
    make_clip,
    place,
)
from workbench.data.sampling.stills import StillFile, Stills
from workbench.data.sampling.true_flow import affine_flow, hidden_pixels, stack_flows
from workbench.imaging import resize_bicubic, warp

SETTINGS = MotionSettings(crop_size=16, num_frames=5, layer_share=0, text_share=0)


@lru_cache
def texture(height=400, width=480, seed=0, finest=3.0):
    """A sum of waves of many directions; the finest has a wavelength of ``finest`` pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.zeros((height, width, 3), np.float32)
    for _ in range(40):
        wavelength, angle = finest * 40 ** rng.random(), rng.uniform(0, 2 * np.pi)
        wave = 2 * np.pi / wavelength * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6)
        image += np.sin(wave)[..., None] * rng.uniform(0.2, 1, 3).astype(np.float32)
    return (128 + 45 * image / image.std()).clip(0, 255).round().astype(np.uint8)


def clips(settings, count=20, seed=0, finest=3.0):
    stills = [texture(seed=number, finest=finest) for number in range(3)]
    return [
        make_clip(lambda rng: stills[rng.integers(3)], np.random.default_rng((seed, number)), settings)
        for number in range(count)
    ]


def floats(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255


def layer_of(patch, matrices, center=(200.0, 200.0), downsampling=2.0):
    return Layer(patch, np.asarray(matrices, float), np.array(center), downsampling)


def shifts(*offsets):
    """``[A | t]`` of a camera that does not turn, at these places."""
    return [[[1, 0, x], [0, 1, y]] for x, y in offsets]


def errors(made):
    """Mean absolute difference of neighbors, as they are and warped by the true flow, over visible pixels."""
    plain, warped = [], []
    for clip in made:
        low = floats(clip.low)
        for here, there, flow, hidden in (
            (low[:-1], low[1:], clip.flow.to_next, clip.flow.hidden_next),
            (low[1:], low[:-1], clip.flow.to_previous, clip.flow.hidden_previous),
        ):
            seen = torch.from_numpy(~hidden)[:, None].expand_as(here)
            plain.append((there - here).abs()[seen])
            warped.append((warp(there, torch.from_numpy(flow).double()) - here).abs()[seen])
    return torch.cat(plain).mean().item(), torch.cat(warped).mean().item()


@pytest.mark.parametrize(
    ("speeds", "factor"), [((0.1, 0.3), 2.0), ((0.3, 1.0), 5.0), ((1.0, 3.0), 12.0)], ids=["subpixel", "one", "three"]
)
def test_warping_by_the_true_flow_explains_the_neighbor(speeds, factor):
    """Images without detail beyond the low resolution, where 8 bits are all that warping loses: 0.4 levels."""
    settings = MotionSettings(
        crop_size=16, num_frames=5, min_speed=speeds[0], max_speed=speeds[1], layer_share=0, text_share=0
    )  # fmt: skip
    plain, warped = errors(clips(settings, finest=60.0))
    assert warped < plain / factor


def test_warping_by_the_true_flow_explains_layers_text_and_detail():
    settings = MotionSettings(crop_size=16, num_frames=5, min_speed=0.5, layer_share=1, text_share=1)
    plain, warped = errors(clips(settings, finest=20.0))
    assert warped < plain / 3


def test_the_composed_flow_explains_frames_at_a_distance():
    """Two frames away, with a second layer, in both directions."""
    made = clips(
        MotionSettings(crop_size=32, num_frames=5, min_speed=0.3, layer_share=1, text_share=0), count=8, finest=20.0
    )
    flow = stack_flows([clip.flow for clip in made], frames=5, height=32, width=32)
    references, neighbors = torch.tensor([0, 1, 4]), torch.tensor([[2], [3], [2]])
    composed, hidden = flow.between(references, neighbors)
    low = torch.stack([floats(clip.low) for clip in made])
    here, there = low[:, references].flatten(0, 1), low[:, neighbors[:, 0]].flatten(0, 1)
    seen = ~hidden[:, :, 0].flatten(0, 1)[:, None].expand_as(here)
    assert 0.3 < seen.double().mean() < 0.95
    warped = warp(there, composed[:, :, 0].flatten(0, 1).double())
    assert (warped - here).abs()[seen].mean() < (there - here).abs()[seen].mean() / 3


def test_warping_by_the_negative_flow_does_not():
    """The direction of the flow is that of ``imaging.warp``."""
    (clip,) = clips(
        MotionSettings(crop_size=16, num_frames=2, min_speed=1.0, layer_share=0, text_share=0), count=1, finest=60.0
    )
    low, flow = floats(clip.low), torch.from_numpy(clip.flow.to_next).double()
    right, wrong = ((warp(low[1:], way) - low[:1]).abs()[..., 4:-4, 4:-4].mean() for way in (flow, -flow))
    assert right < wrong / 5


def test_flow_of_a_rotation_by_hand():
    """The camera turns by 90 degrees: what was right of the center (x, y = 1, 0) is then above it, at (0, -1)."""
    still, turned = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[0.0, -1, 0], [1, 0, 0]])
    assert affine_flow(still, turned, np.array([[[1.0]], [[0.0]]])).ravel().tolist() == [-1.0, -1.0]


def test_flow_of_an_affine_motion_by_hand():
    """Zoom 1.02 (a frame shows more), then a shift of (3, -2): q = (p - (3, -2)) / 1.02, in low-resolution pixels."""
    settings = MotionSettings(crop_size=8, num_frames=2)
    matrices = [[[1, 0, 0], [0, 1, 0]], [[1.02, 0, 3], [0, 1.02, -2]]]
    clip = compose(layer_of(texture(), matrices), None, settings)
    p = 4 * (np.arange(8) - 3.5)  # low-resolution pixels are centered on the frame with BI
    assert clip.flow.to_next[0, 0] == pytest.approx(np.tile(((p - 3) / 1.02 - p) / 4, (8, 1)), abs=1e-6)
    assert clip.flow.to_next[0, 1] == pytest.approx(np.tile(((p + 2) / 1.02 - p) / 4, (8, 1)).T, abs=1e-6)
    assert clip.flow.to_previous[0, 0] == pytest.approx(np.tile((1.02 * p + 3 - p) / 4, (8, 1)), abs=1e-6)


def test_the_positions_are_those_of_the_degradation():
    """A zoom about the center of the frame; pixel i of bd_duf is 1.5 high-resolution pixels left of that of bi."""
    matrices = [[[1, 0, 0], [0, 1, 0]], [[0.98, 0, 0], [0, 0.98, 0]]]
    made = {
        family: compose(
            layer_of(texture(), matrices), None, MotionSettings(crop_size=8, num_frames=2, degradation=family)
        )
        for family in ("bi", "bd_duf")
    }
    difference = made["bd_duf"].flow.to_next - made["bi"].flow.to_next
    assert difference == pytest.approx(np.full((1, 2, 8, 8), -1.5 * (1 / 0.98 - 1) / 4), abs=1e-6)


@pytest.mark.parametrize("x", [8.0, 2.0, 1.0, 0.5, 0.125])
def test_rendered_shifts_are_those_of_the_flow(x):
    """A linear ramp of 0.8 levels a pixel of the image, shrunk twice: a shift by x brightens every pixel by 1.6 x."""
    ramp = np.broadcast_to((20 + 0.8 * np.arange(280))[None, :, None], (280, 280, 3))
    fine = np.random.default_rng(0).random((280, 280, 3))  # dithered, so that rounding averages out
    still = np.floor(ramp + fine).astype(np.uint8)
    layer = layer_of(still, shifts((0, 0), (x, 0)), center=(130.0, 130.0))
    clip = compose(layer, None, MotionSettings(crop_size=16, num_frames=2))
    difference = clip.high[1].astype(float) - clip.high[0]
    assert difference.mean() == pytest.approx(1.6 * x, abs=0.1)
    assert clip.flow.to_next[0, 0] == pytest.approx(np.full((16, 16), -x / 4))


@pytest.mark.parametrize(
    ("family", "scale"),
    [(family, scale) for family in DEGRADATIONS for scale in DEGRADATIONS[family].scales or (2, 3, 4)],
)
def test_the_low_resolution_is_that_of_a_larger_frame(family, scale, monkeypatch):
    """The margin that is rendered around a clip is wide enough, and low lies under high."""
    settings = MotionSettings(crop_size=16, num_frames=2, scale=scale, degradation=family)
    layer = layer_of(texture(), shifts((0, 0), (3.3, -1.7)))
    clip = compose(layer, None, settings)
    assert (clip.low.shape, clip.low.dtype) == ((2, 16, 16, 3), np.uint8)
    assert (clip.high.shape, clip.high.dtype) == ((2, 16 * scale, 16 * scale, 3), np.uint8)
    assert np.array_equal(degrade(clip.high, family, scale)[:, 4:-4, 4:-4], clip.low[:, 4:-4, 4:-4])
    monkeypatch.setattr(motion, "MARGIN", 8)
    assert np.array_equal(compose(layer, None, settings).low, clip.low)


def shift_and_add(clip, frame):
    """Put the pixels of all frames where the true flow says that they belong, and average: the classic method.

    Every high-resolution pixel is the mean of the low-resolution samples of all frames, weighted by a Gaussian of their
    distance. Flow along the clip is added up from neighbor to neighbor (shifts, so it is the same for all pixels).
    """
    frames, height, width = clip.low.shape[:3]
    steps = clip.flow.to_next.mean((2, 3))  # (T - 1, 2)
    along = np.concatenate(([[0.0, 0.0]], np.cumsum(steps, 0)))
    along -= along[frame]
    total = weights = 0
    fine_x, fine_y = ((np.arange(4 * size) - 1.5) / 4 for size in (width, height))
    for number in range(frames):
        x, y = np.arange(width) - along[number, 0], np.arange(height) - along[number, 1]
        wx, wy = (
            np.exp(-(((fine[:, None] - at) / 0.3) ** 2) / 2) for fine, at in ((fine_x, x), (fine_y, y))
        )  # fmt: skip
        total = total + np.einsum("Yy,yxc,Xx->YXc", wy, clip.low[number].astype(float), wx)
        weights = weights + wy.sum(1)[:, None, None] * wx.sum(1)[None, :, None]
    return total / weights


def psnr(image, truth):
    inner = slice(16, -16)
    return 10 * math.log10(255**2 / np.mean((image[inner, inner] - truth[inner, inner].astype(float)) ** 2))


def back_project(clip, places, image, rounds=10):
    """Correct an image until it explains all frames (Irani and Peleg 1991); the shifts are whole pixels of it."""
    for _ in range(rounds):
        total = 0
        for low, (x, y) in zip(clip.low, places.astype(int), strict=True):
            moved = torch.from_numpy(np.roll(image, (-y, -x), (0, 1))).permute(2, 0, 1)[None]
            error = torch.from_numpy(low).permute(2, 0, 1)[None] - resize_bicubic(moved, scale=4, down=True)
            total = total + np.roll(resize_bicubic(error, scale=4)[0].permute(1, 2, 0).numpy(), (y, x), (0, 1))
        image = image + total / len(places)
    return image


@pytest.mark.parametrize("seed", range(3))
def test_the_true_alignment_recovers_what_one_frame_does_not_contain(seed):
    """Sixteen frames against bicubic of one: shift-and-add 0.3 dB and more, corrected for its blur 2 dB and more."""
    places = np.stack(np.mgrid[-2:2, -2:2], -1).reshape(16, 2)[:, ::-1]
    places = np.vstack(([[0, 0]], places[(places != 0).any(1)]))  # every phase of the low-resolution grid once
    still = texture(seed=seed, finest=10.0)  # 5 high-resolution pixels: finer than the low resolution can show
    clip = compose(layer_of(still, shifts(*places)), None, MotionSettings(crop_size=24, num_frames=16))
    assert np.allclose(clip.flow.to_next.mean((2, 3)), -np.diff(places, axis=0) / 4)
    bicubic = resize_bicubic(floats(clip.low[:1]), scale=4)[0].permute(1, 2, 0).numpy() * 255
    added = shift_and_add(clip, 0)
    one, many, sharp = (psnr(image, clip.high[0]) for image in (bicubic, added, back_project(clip, places, added)))
    assert many - one > 0.3, (one, many, sharp)
    assert sharp - one > 2.0, (one, many, sharp)


def test_occlusion_by_hand():
    """A front layer covers columns 2 and 3, then 3 and 4; the back layer stands still, the frame has six columns."""
    first, second = (np.tile(np.array(row, np.float32), (2, 1)) for row in ([0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]))
    flow = np.zeros((2, 2, 6), np.float32)
    flow[0] = first  # the front layer moves one pixel to the right
    assert hidden_pixels(flow, first, second).tolist() == [[False, False, False, False, True, False]] * 2
    back = np.zeros((2, 2, 6), np.float32)
    back[0] = -second
    assert hidden_pixels(back, second, first).tolist() == [[False, False, True, False, False, False]] * 2


def test_pixels_outside_of_the_image_by_hand():
    """Everything moves 1.5 pixels to the left and half a pixel down."""
    flow = np.stack((np.full((3, 5), -1.5), np.full((3, 5), 0.5)))
    wanted = [[True, True, False, False, False]] * 2 + [[True] * 5]
    assert hidden_pixels(flow, None, None).tolist() == wanted


def test_pixels_that_show_both_layers_have_no_correspondence():
    coverage = np.array([[0, 0.05, 0.5, 0.95, 1]], np.float32)
    assert hidden_pixels(np.zeros((2, 1, 5)), coverage, coverage).tolist() == [[False, False, True, False, False]]


def test_two_rendered_layers_by_hand():
    """A square of 8x8 low-resolution pixels moves two to the right over an image that stands still."""
    square = np.zeros((400, 400), np.uint8)
    square[168:232, 168:232] = 255  # 8 low-resolution pixels of 8 pixels of the image, around (200, 200) - 1/2
    front = layer_of(
        np.dstack((texture(400, 400, seed=1), square)), shifts((0, 0), (-8, 0)), center=(199.5, 199.5)
    )  # fmt: skip
    clip = compose(layer_of(texture(), shifts((0, 0), (0, 0))), front, MotionSettings(crop_size=24, num_frames=2))
    rows, columns = np.mgrid[:24, :24]
    in_front = (abs(rows - 11.5) < 4) & (abs(columns - 11.5) < 4)
    assert np.array_equal(clip.flow.to_next[0, 0], np.where(in_front, 2, 0).astype(np.float32))
    assert np.array_equal(clip.flow.to_next[0, 1], np.zeros((24, 24), np.float32))
    hidden = (abs(rows - 11.5) < 4) & ((columns == 16) | (columns == 17))
    near = (
        (abs(abs(rows - 11.5) - 4) < 1.1) | (abs(abs(columns - 11.5) - 4) < 1.1) | (abs(abs(columns - 13.5) - 4) < 1.1)
    )
    assert np.array_equal(clip.flow.hidden_next[0][~near], hidden[~near])
    assert clip.flow.hidden_next[0][(abs(rows - 11.5) < 3) & hidden].all()
    appears = (abs(rows - 11.5) < 3) & ((columns == 8) | (columns == 9))
    assert clip.flow.hidden_previous[0][appears].all()


def test_speed_is_the_drawn_one():
    """The fastest pixel of a clip moves by 0.03 to 3 pixels; the logarithm is uniform: the median is near 0.3."""
    paths = [draw_path(np.random.default_rng((1, seed)), SETTINGS) for seed in range(1000)]
    peaks = np.array([path.peak(64) for path in paths]) / 4
    assert peaks.min() >= 0.0299
    assert peaks.max() <= 3.01
    assert 0.25 < np.median(peaks) < 0.36
    assert abs((peaks > 1).mean() - math.log(3) / math.log(100)) < 0.05
    assert any(np.abs(path.angle).max() > 0.005 for path in paths)
    assert any(np.abs(path.log_zoom).max() > 0.005 for path in paths)


def test_one_frame_has_no_flow():
    (clip,) = clips(MotionSettings(crop_size=8, num_frames=1, layer_share=1, text_share=1), count=1)
    assert clip.low.shape == (1, 8, 8, 3)
    assert clip.flow.to_next.shape == clip.flow.to_previous.shape == (0, 2, 8, 8)
    assert clip.flow.hidden_next.shape == (0, 8, 8)


@pytest.mark.parametrize("extra", [0, 3, 60])
def test_frames_stay_inside_the_image(extra):
    """Also where the image is hardly larger than a frame: the motion is made smaller."""
    settings = MotionSettings(crop_size=16, num_frames=9, min_speed=2.9)
    still = texture(settings.min_still_side + extra, settings.min_still_side)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        layer = place(still, draw_path(rng, settings), rng, settings)
        corners = np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]]) * (settings.side / 2)
        seen = layer.center[:, None] + layer.downsampling * (
            layer.matrices[:, :, :2] @ corners + layer.matrices[:, :, 2:]
        )
        height, width = layer.patch.shape[:2]
        assert seen.min() >= -0.5
        assert (seen <= np.array([[width - 0.5], [height - 0.5]])).all()
        assert layer.downsampling >= MIN_DOWNSAMPLING - 1e-9


def test_text_moves_with_the_image():
    """The same clips with and without text: other frames, the same flow."""
    plain, written = (
        clips(MotionSettings(crop_size=16, num_frames=2, layer_share=0, text_share=share), count=12) for share in (0, 1)
    )
    same = [np.array_equal(one.low, other.low) for one, other in zip(plain, written, strict=True)]
    assert sum(same) <= 4  # some words are outside of the crop
    for one, other in zip(plain, written, strict=True):
        assert np.array_equal(one.flow.to_next, other.flow.to_next)


def test_the_share_of_clips_with_a_second_layer():
    """Still cameras: without a second layer every pixel keeps its correspondence."""
    settings = MotionSettings(crop_size=16, num_frames=2, min_speed=1e-6, max_speed=2e-6, layer_share=0.4)
    covered = [clip.flow.hidden_next.any() for clip in clips(settings, count=60)]
    assert 8 <= sum(covered) <= 30  # 24 expected, fewer as some shapes are outside of the crop


def test_images_are_rotated_only_on_request():
    path = CameraPath(np.zeros((1, 2)), np.zeros(1), np.zeros(1))
    for augment, kinds in ((False, 1), (True, 8)):
        turned = MotionSettings(crop_size=8, num_frames=1, augment=augment)
        rngs = [np.random.default_rng(seed) for seed in range(100)]
        seen = {tuple(place(texture(), path, rng, turned).matrices[0, :, :2].ravel() + 0.0) for rng in rngs}
        assert len(seen) == kinds


def test_detailed_areas_are_preferred():
    """Half of the image is gray; about one part in sixteen is still taken from there."""
    half = texture(600, 1200)
    half[:, :600] = 90
    settings = MotionSettings(crop_size=8, num_frames=2)
    grays = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        grays += place(half, draw_path(rng, settings), rng, settings).patch.std() < 1
    assert grays < 20


def test_a_clip_depends_on_seed_step_and_index(tmp_path):
    from PIL import Image

    Image.fromarray(texture()).save(tmp_path / "a.png")
    stills = Stills([StillFile(FileState.of(tmp_path / "a.png"), (480, 400))])
    settings = MotionSettings(crop_size=8, num_frames=3, layer_share=0.5)

    def clip(seed, step, index):
        return MotionSampler(stills, settings, seed=seed).clip(step, index)

    first = clip(1, 2, 3)
    np.random.seed(7)
    again = clip(1, 2, 3)
    assert np.array_equal(first.low, again.low)
    assert np.array_equal(first.high, again.high)
    assert all(np.array_equal(one, other) for one, other in zip(first.flow, again.flow, strict=True))
    for other in ((0, 2, 3), (1, 1, 3), (1, 2, 0)):
        assert not np.array_equal(first.low, clip(*other).low)
