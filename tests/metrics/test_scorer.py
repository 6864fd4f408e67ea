import math
import tracemalloc

import numpy as np
import pytest
import torch

from workbench.errors import ConfigError, ResultError, ShapeError, UnknownNameError
from workbench.metrics import FIDELITY, METRICS, TEMPORAL, scorer
from workbench.metrics.fidelity import psnr_db, ssim
from workbench.metrics.scorer import Scorer
from workbench.metrics.temporal import mae, t_diff, tof
from workbench.metrics.warping import warping_error

WITHOUT_NETWORK = tuple(METRICS)[:-2]


def clips(frames=4, height=40, width=48):
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    truth = np.stack([128 + 90 * np.sin((columns - 2 * t) / 5) * np.cos(rows / 6) for t in range(frames)])
    truth = truth[..., None] + np.array([0, 10, -10])
    noisy = truth + random.normal(0, 12, truth.shape)
    return noisy.clip(0, 255).astype(np.uint8), truth.clip(0, 255).astype(np.uint8)


def scored(frames, truth, **settings):
    one = Scorer("walk", **settings)
    for pair in zip(frames, truth, strict=True):
        one.add(*pair)
    return one


@pytest.mark.parametrize("crop", [0, 3])
def test_frame_by_frame_scores_equal_those_of_whole_clips(crop):
    frames, truth = clips()
    curves = scored(frames, truth, metrics=WITHOUT_NETWORK, crop_border=crop).curves
    wanted = {
        "psnr_y_db": psnr_db(frames, truth, crop_border=crop),
        "ssim_y": ssim(frames, truth, crop_border=crop),
        "psnr_rgb_db": psnr_db(frames, truth, channel="rgb", crop_border=crop),
        "ssim_rgb": ssim(frames, truth, channel="rgb", crop_border=crop),
        "t_diff": t_diff(frames, truth),
        "tof": tof(frames, truth),
        "warping_error": warping_error(frames, truth),
        "warping_error_floor": warping_error(truth, truth),
        "mae": mae(frames, truth),
    }
    assert list(curves) == list(wanted)
    for name, curve in wanted.items():
        assert curves[name] == pytest.approx(curve.tolist(), rel=1e-12, nan_ok=True), name


def test_each_metric_alone_has_the_same_value():
    frames, truth = clips(frames=2)
    whole = scored(frames, truth, metrics=WITHOUT_NETWORK).curves
    for name in whole:
        alone = scored(frames, truth, metrics=[name]).curves
        assert alone.keys() == {name}
        assert alone[name] == pytest.approx(whole[name], nan_ok=True)


def test_only_requested_metrics_are_computed(monkeypatch):
    for name in ("luma", "farneback", "motion"):
        monkeypatch.setattr(scorer, name, None)
    frames, truth = clips(frames=2)
    assert scored(frames, truth, metrics=["psnr_rgb_db"]).curves.keys() == {"psnr_rgb_db"}


def test_equal_frames_are_counted():
    frames, truth = clips()
    frames[2] = truth[2]
    frames[3] = truth[3]
    frames[3, 0, 0] += 1
    assert scored(frames, truth).equal == [False, False, True, False]
    inside = scored(frames, truth, crop_border=1)
    assert inside.equal == [False, False, True, True]
    assert [math.isinf(value) for value in inside.curves["psnr_y_db"]] == inside.equal


def test_float_tensors_are_rounded_to_8_bits():
    frames, truth = clips(frames=2)
    tensors = [torch.from_numpy(frame).permute(2, 0, 1) / 255 + 0.4 / 255 for frame in frames]
    assert scored(tensors, truth).curves == scored(frames, truth).curves


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_raise_with_clip_and_frame(bad):
    frames, truth = clips(frames=3)
    tensors = [torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in frames]
    tensors[2][1, 5, 7] = bad
    with pytest.raises(ResultError, match="walk, frame 2: NaN") as caught:
        scored(tensors, truth)
    assert caught.value.frame == 2


def test_invalid_input_raises_with_clip_and_frame():
    frames, truth = clips(frames=2)
    with pytest.raises(ShapeError, match=r"walk, frame 1: .*47x40, .*48x40"):
        scored([frames[0], frames[1][:, :-1]], truth)
    with pytest.raises(ShapeError, match=r"walk, frame 0: .*float64.*uint8"):
        scored(frames / 255, truth)
    with pytest.raises(ShapeError, match=r"walk, frame 0: ssim: .*10x2.*11x11"):
        scored(frames, truth, crop_border=19)
    with pytest.raises(ShapeError, match=r"walk, frame 0: crop_border: .*20.*48x40"):
        scored(frames, truth, crop_border=20)
    with pytest.raises(UnknownNameError, match=r"'tdiff'.*'t_diff'"):
        Scorer(metrics=["tdiff"])
    with pytest.raises(ConfigError, match="lpips: needs a network"):
        Scorer(metrics=["lpips"])


def test_memory_does_not_grow_with_the_clip():
    frames, truth = clips(frames=2, height=64, width=96)
    one = Scorer(metrics=FIDELITY + TEMPORAL)
    tracemalloc.start()
    try:
        held = []
        for number in range(12):
            one.add(frames[number % 2].copy(), truth[number % 2].copy())
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[-1] - held[3] < truth[0].nbytes  # not one frame more
