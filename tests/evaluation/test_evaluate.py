import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workbench.data.datasets import clip_set
from workbench.data.datasets.samples import sample
from workbench.data.datasets.vimeo import ExpectedLists
from workbench.data.degradation.families import degrade
from workbench.errors import ConfigError, DataError, ResultError, ShapeError, UnknownNameError
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.protocols import PROTOCOLS
from workbench.inference.chunks import upscale
from workbench.metrics.fidelity import psnr_db, ssim
from workbench.metrics.temporal import mae, t_diff, tof
from workbench.metrics.warping import warping_error
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.models.zoo import build

VID4 = Path(__file__).parents[3] / "shared" / "data" / "vid4"
needs_vid4 = pytest.mark.skipif(
    not (VID4 / "GT").is_dir(), reason="Vid4 is not in the folder of reference data; its license forbids to ship it"
)

# All frames, no crop, luma. Published by several papers.
BICUBIC_VID4 = {
    "calendar": (20.39, 0.5720),
    "city": (25.16, 0.6028),
    "foliage": (23.47, 0.5666),
    "walk": (26.10, 0.7974),
}


class Nearest(VideoSR):
    """Repeats every pixel: its score can be computed by hand."""

    def __init__(self, *, scale: int = 4, gain: int = 1) -> None:
        super().__init__(scale=scale)
        self.gain = gain

    def forward(self, clip: Tensor, return_features: str | None = None) -> Upscaled:
        times = self.scale * self.gain
        return Upscaled(frames=clip.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2))


class Average(Nearest):
    """Depends on the whole clip, as a recurrent network does: every frame is a little of the mean of all."""

    temporal_radius = None

    def forward(self, clip: Tensor, return_features: str | None = None) -> Upscaled:
        return super().forward((clip + clip.mean(dim=1, keepdim=True)) / 2)


class Damaged(Nearest):
    """Makes NaN of every frame that is all black in the middle."""

    def forward(self, clip: Tensor, return_features: str | None = None) -> Upscaled:
        frames = super().forward(clip).frames
        black = clip[..., 2:-2, 2:-2].amax(dim=(2, 3, 4)) == 0
        frames[black] = math.nan
        return Upscaled(frames=frames)


class DamagedWhole(Damaged):
    temporal_radius = None


class Spy(SlidingWindow):
    """Its output is the mean of the frames of its window, which depends on the border rule."""

    def __init__(self, frames: int = 5) -> None:
        super().__init__(scale=4, num_frames=frames, border="replicate", skip="none")
        self.seen: list[int] = []

    def upscale_windows(self, clip: Tensor, windows: Tensor, return_features: str | None = None) -> Upscaled:
        self.seen.append(len(windows))
        mean = clip[:, windows.to(clip.device)].mean(dim=2)
        return Upscaled(frames=mean.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2))

    def forward(self, clip: Tensor, return_features: str | None = None) -> Upscaled:
        raise AssertionError("the whole clip at once")


@pytest.fixture(scope="module")
def result(data):
    return evaluate(build("bicubic", scale=4), data, "folders", temporal=True)


# -- results --------------------------------------------------------------------------------------------------------
def test_scores_are_the_metrics_of_the_upscaled_frames(data, result):
    assert list(result.per_frame) == ["clip_9", "clip_10"]  # natural order
    assert result.frames == {"clip_9": 3, "clip_10": 5}
    assert result.sizes == {"clip_9": (64, 48), "clip_10": (88, 72)}  # what does not fill a pixel is cropped
    high = sample("carphone", frames=(40, 43)).frames[:, :48, :64]
    restored = upscale(build("bicubic", scale=4), degrade(high, "bi", 4))
    wanted = {
        "psnr_y_db": psnr_db(restored, high),
        "ssim_y": ssim(restored, high),
        "psnr_rgb_db": psnr_db(restored, high, channel="rgb"),
        "t_diff": t_diff(restored, high),
        "tof": tof(restored, high),
        "warping_error": warping_error(restored, high),
        "warping_error_floor": warping_error(high, high),
        "mae": mae(restored, high),
    }
    assert result.per_frame["clip_9"].keys() == wanted.keys()
    for metric, curve in wanted.items():
        assert result.per_frame["clip_9"][metric] == pytest.approx(curve, nan_ok=True)


def test_the_result_records_its_conditions(data, result):
    assert (result.network, result.data, result.low) == ("bicubic", "set", "bi, made here")
    assert result.protocol is PROTOCOLS["folders"]
    assert result.provenance["torch"] == torch.__version__
    assert "Farneback" in result.provenance["tof"]
    assert "DIS, preset medium" in result.provenance["warping_error"]
    assert str(data.parent) not in str(result.to_dict())
    short = evaluate(Nearest(), data, "folders", name="mine", note="weights.safetensors (sha256 123)")
    assert (short.network, short.provenance["method"]) == ("mine", "weights.safetensors (sha256 123)")
    assert "tof" not in short.provenance
    assert short.metrics == ["psnr_y_db", "ssim_y", "psnr_rgb_db"]
    assert evaluate(Nearest(), data, "folders").network == "Nearest"


def test_a_clip_by_its_path_is_named_by_its_last_part(data):
    spec = f"{data}/clip_10[0:2]"
    result = evaluate(Nearest(), spec, "held_out")
    assert (result.data, list(result.per_clip), result.frames) == (
        "clip_10[0:2]",
        ["clip_10[0:2]"],
        {"clip_10[0:2]": 2},
    )
    assert str(data) not in str(result.to_dict())


def test_equal_frames_have_infinite_psnr(tmp_path, save):
    """Gray frames of one level: nothing is lost, so all frames are equal."""
    save(tmp_path / "flat", np.stack([np.full((32, 32, 3), level, np.uint8) for level in (0, 7, 255)]))
    result = evaluate(Nearest(), tmp_path, "folders", temporal=True)
    assert result.per_frame["flat"]["psnr_y_db"] == [math.inf] * 3
    assert result.per_frame["flat"]["ssim_y"] == pytest.approx([1] * 3)
    assert result.equal_frames == 3
    assert math.isnan(result.mean["psnr_y_db"])
    assert result.mean["t_diff"] == 0


def test_selected_clips_are_scored(data):
    result = evaluate(Nearest(), data, "folders", clips=["clip_10"])
    assert (list(result.per_clip), result.selected) == (["clip_10"], True)
    with pytest.raises(UnknownNameError, match=r"'clip_1'.*'clip_10'"):
        evaluate(Nearest(), data, "folders", clips=["clip_1"])


def test_progress_counts_frames(data):
    seen = []
    evaluate(Nearest(), data, "folders", progress=lambda *step: seen.append(step))
    assert seen == [("clip_9", n, 8) for n in range(4)] + [("clip_10", n, 8) for n in range(3, 9)]


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_and_border_are_restored(data, training):
    network = build("edvr_tiny", scale=4).train(training)
    network.border = "circle"
    evaluate(network, data, PROTOCOLS["folders"].change(border="reflection"))
    assert (network.training, network.border) == (training, "circle")


# -- protocols at work ----------------------------------------------------------------------------------------------
def ramp(frames=5, height=24, width=32, step=20):
    """Every frame one gray level, 20 apart: what a window saw can be read off its mean."""
    return np.stack([np.full((height, width, 3), step * t, np.uint8) for t in range(frames)])


def test_the_border_rule_of_the_protocol_is_used(held):
    """Mean squared errors of flat frames give back the level: frame 0 by [0, 0, 0, 1, 2] or by [4, 3, 0, 1, 2]."""
    flat = held(ramp())

    def off(protocol):
        result = evaluate(Spy(), flat, protocol)
        return result.windows, 255 * 10 ** (-result.per_frame["walk"]["psnr_rgb_db"][0] / 20)

    assert off("folders") == ("replicate", pytest.approx((0 + 0 + 0 + 20 + 40) / 5))
    assert off("vid4") == ("reflection_circle", pytest.approx((80 + 60 + 0 + 20 + 40) / 5))
    assert evaluate(Nearest(), flat, "vid4").windows == ""


def test_only_the_windows_of_scored_frames_are_computed(held):
    """Vimeo: frame 3 of 7 and no other, from exactly its window."""
    network = Spy()
    result = evaluate(network, held(ramp(7), targets=(3,)), "vimeo90k_t")
    assert network.seen == [1]
    assert result.numbers == {"walk": [3]}
    assert result.equal == {"walk": [True]}  # the mean of levels 20 to 100 is level 60


def test_skipped_frames_and_center_crop(held):
    """TecoGAN: frames 2 to T - 3, 64x32 of 96x64; everything outside may be wrong."""
    frames = np.random.default_rng(0).integers(0, 256, (7, 64, 96, 3)).astype(np.uint8)

    class Partly(Nearest):
        def forward(self, clip, return_features=None):
            made = torch.from_numpy(frames[: clip.shape[1]]).permute(0, 3, 1, 2)[None] / 255
            made[:, [0, 1, 5, 6]] = 0.5
            made[..., :16, :] = made[..., 48:, :] = 0.5
            made[..., :16] = made[..., 80:] = 0.5
            return Upscaled(frames=made)

    result = evaluate(Partly(), held(frames), "tecogan", temporal=True)
    assert result.numbers == {"walk": [2, 3, 4]}
    assert result.equal == {"walk": [True] * 3}
    assert result.per_frame["walk"]["tof"] == pytest.approx([math.nan, 0, 0], nan_ok=True)


def test_rgb_protocols_have_ssim_of_rgb(data):
    result = evaluate(Nearest(), data, PROTOCOLS["folders"].change(channel="rgb"))
    assert result.metrics == ["psnr_y_db", "ssim_y", "psnr_rgb_db", "ssim_rgb"]


@pytest.mark.parametrize("family", ["bd_basicvsr", "bd_duf", "bd_tecogan"])
def test_the_family_and_the_crop_of_the_protocol(data, family):
    result = evaluate(build("bicubic"), data, PROTOCOLS["folders"].change(degradation=family, crop_border=8))
    high = sample("carphone", frames=5).frames
    restored = upscale(build("bicubic"), degrade(high, family, 4))
    assert result.per_frame["clip_10"]["psnr_y_db"] == pytest.approx(psnr_db(restored, high, crop_border=8).tolist())
    assert result.low == f"{family}, made here"


def test_vimeo_in_its_own_layout_with_its_groups(tmp_path):
    names = ["00001/0001", "00001/0002", "00002/0001"]
    for number, name in enumerate(names):
        frames = sample("carphone", frames=(7 * number, 7 * number + 7)).frames[:, :32, :64]
        for k, frame in enumerate(frames):
            path = tmp_path / "sequences" / name / f"im{k + 1}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(path)
    (tmp_path / "sep_testlist.txt").write_text("\n".join(names))
    for group, members in (("slow", names[:1]), ("medium", names[1:2]), ("fast", names[2:])):
        (tmp_path / f"{group}_testset.txt").write_text("\n".join(members))
    lists = ExpectedLists(clips={"test": 3}, groups={"slow": 1, "medium": 1, "fast": 1}, size=(64, 32), left_out=())
    protocol = replace(PROTOCOLS["vimeo90k_t"], options={"split": "test", "whole": lists})
    result = evaluate(Nearest(), tmp_path, protocol)
    assert result.numbers == {name: [3] for name in names}
    middle = sample("carphone", frames=(10, 11)).frames[:, :32, :64]
    wanted = psnr_db(upscale(Nearest(), degrade(middle, "bi", 4)), middle)
    assert result.per_clip["00001/0002"]["psnr_y_db"] == pytest.approx(wanted.item())
    assert list(result.per_group) == ["slow", "medium", "fast"]
    assert result.per_group["fast"] == result.per_clip["00002/0001"]
    with pytest.raises(ConfigError, match="'vimeo90k_t'"):
        evaluate(Nearest(), tmp_path, protocol, temporal=True)


# -- low resolution -------------------------------------------------------------------------------------------------
@pytest.fixture
def set_with_low(tmp_path, save):
    """A set with its low resolution on disk, of the family bd_duf."""
    high = sample("carphone", frames=3).frames
    save(tmp_path / "GT" / "car", high)
    save(tmp_path / "LRx4" / "car", degrade(high, "bd_duf", 4))
    return tmp_path


def test_low_resolution_on_disk_of_the_same_family_is_used(set_with_low):
    """The family is recognized by the images; one of them is then spoilt, so that it can be seen that it was read."""
    made = evaluate(Nearest(), set_with_low, PROTOCOLS["folders"].change(degradation="bd_duf"))
    from_disk = evaluate(Nearest(), set_with_low, PROTOCOLS["folders"].change(degradation="bd_duf"), lr_dir="LRx4")
    assert (made.low, from_disk.low) == ("bd_duf, made here", "bd_duf, from disk")
    assert from_disk.per_frame == made.per_frame
    Image.fromarray(np.zeros((18, 22, 3), np.uint8)).save(set_with_low / "LRx4" / "car" / "2.png")
    spoilt = evaluate(Nearest(), set_with_low, PROTOCOLS["folders"].change(degradation="bd_duf"), lr_dir="LRx4")
    assert spoilt.per_frame["car"]["psnr_y_db"][:2] == made.per_frame["car"]["psnr_y_db"][:2]
    assert spoilt.per_frame["car"]["psnr_y_db"][2] < 15


def test_low_resolution_of_another_family_raises(set_with_low):
    with pytest.raises(DataError, match="bi, got bd_duf"):
        evaluate(Nearest(), set_with_low, "folders", lr_dir="LRx4")


# -- long clips -----------------------------------------------------------------------------------------------------
def test_a_long_clip_in_chunks_equals_the_whole_clip(monkeypatch, held):
    """Sliding windows over the seams, and a network of the whole clip, as in one pass."""
    frames = sample("carphone", frames=20).frames
    monkeypatch.setattr(clip_set, "READ_FRAMES", 6)
    for network in (build("vespcn", scale=4), Average()):
        restored = upscale(network, degrade(frames, "bi", 4))
        result = evaluate(network, held(frames), "folders")
        assert result.per_frame["walk"]["psnr_y_db"] == pytest.approx(psnr_db(restored, frames).tolist())


class Endless:
    """A source that makes each frame when it is asked for."""

    def __init__(self, image, frames):
        self.image, self.frames = image, frames

    def stream(self):
        return (self.image.copy() for _ in range(self.frames))


def test_memory_does_not_grow_with_the_clip(held):
    peaks = {}
    image = sample("carphone", frames=1).frames[0]
    for count in (40, 160):
        frames = np.broadcast_to(image, (count, *image.shape))  # one image in memory
        long = held(frames, source=Endless(image, count))
        tracemalloc.start()
        try:
            evaluate(Nearest(), long, "folders")
            peaks[count] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peaks[160] - peaks[40] < 2 * image.nbytes


# -- errors ---------------------------------------------------------------------------------------------------------
def test_invalid_arguments_raise(data, held):
    with pytest.raises(UnknownNameError, match=r"'vid5'.*'vid4'"):
        evaluate(Nearest(), data, "vid5")
    with pytest.raises(ConfigError, match=r"x4.*x2"):
        evaluate(Nearest(scale=2), data, "folders")
    with pytest.raises(DataError, match="city is missing"):
        evaluate(Nearest(), data, "vid4")
    with pytest.raises(DataError, match="protocol 'folders': folders x4"):
        evaluate(Nearest(), "", "folders")
    flat = held(ramp())
    with pytest.raises(ConfigError, match=r"x2, Held.* x4"):
        evaluate(Nearest(scale=2), flat, PROTOCOLS["folders"].change(scale=2))
    with pytest.raises(ConfigError, match=r"Held: .*BIx4"):
        evaluate(Nearest(), flat, "folders", lr_dir="BIx4")
    with pytest.raises(ShapeError, match=r"clip_9, frame 0: .*128x96.* 64x48"):
        evaluate(Nearest(gain=2), data, "folders")


@pytest.mark.parametrize("network", [Damaged(), DamagedWhole()])
def test_nan_raises_with_clip_and_frame(network, held):
    frames = ramp(23, step=10) + 1
    frames[21] = 0
    with pytest.raises(ResultError, match="walk, frame 21: NaN"):
        evaluate(network, held(frames), "folders")


def test_nan_in_a_single_scored_frame_raises(held):
    class Broken(Spy):
        def upscale_windows(self, clip, windows, return_features=None):
            return Upscaled(frames=super().upscale_windows(clip, windows).frames * math.nan)

    with pytest.raises(ResultError, match="walk, frame 3: NaN"):
        evaluate(Broken(), held(ramp(7), targets=(3,)), "vimeo90k_t")


def test_a_network_that_drops_frames_raises(data):
    class Forgets(Nearest):
        def forward(self, clip, return_features=None):
            return Upscaled(frames=super().forward(clip[:, :-1]).frames)

    with pytest.raises(ShapeError, match="clip_9: want 3 frames, got 2"):
        evaluate(Forgets(), data, "folders")


# -- against published numbers --------------------------------------------------------------------------------------
@needs_vid4
@pytest.mark.slow
def test_bicubic_on_vid4_has_the_published_scores():
    result = evaluate(build("bicubic", scale=4), VID4, "vid4")
    for clip, golden in BICUBIC_VID4.items():
        scores = result.per_clip[clip]
        assert (round(scores["psnr_y_db"], 2), round(scores["ssim_y"], 4)) == golden
    assert (round(result.mean["psnr_y_db"], 2), round(result.mean["ssim_y"], 4)) == (23.78, 0.6347)
    assert sum(result.frames.values()) == 171
