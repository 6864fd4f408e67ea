import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workbench.data.degrade import downscale_bi
from workbench.data.samples import sample
from workbench.errors import ConfigError, DataError, ShapeError, UnknownNameError
from workbench.evaluation import tables
from workbench.evaluation.protocols import METRICS, PROTOCOLS, evaluate, find_protocol, mean_score, score
from workbench.inference import upscale
from workbench.metrics.fidelity import psnr_db, ssim
from workbench.metrics.temporal import flow, t_diff, tof
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.models.zoo import build

VID4 = Path(__file__).parents[3] / "shared" / "data" / "vid4"
needs_vid4 = pytest.mark.skipif(
    not (VID4 / "GT").is_dir(), reason="Vid4 is not at ../shared/data/vid4 beside the repository; it may not be shipped"
)

# All frames, no crop, luma. Published by several papers, and run again for facts/models.md section 16.3.
BICUBIC_VID4 = {
    "calendar": (20.39, 0.5720),
    "city": (25.16, 0.6028),
    "foliage": (23.47, 0.5666),
    "walk": (26.10, 0.7974),
}


class Nearest(VideoSR):
    """Repeats every pixel, and nothing else: its score can be told beforehand."""

    def __init__(self, *, scale: int = 4, gain: int = 1) -> None:
        super().__init__(scale=scale)
        self.gain = gain

    def forward(self, clip: Tensor, keep: str | None = None) -> Upscaled:
        times = self.scale * self.gain
        return Upscaled(frames=clip.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2))


def save(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two clips of different length and size; one is not a multiple of 4."""
    folder = tmp_path_factory.mktemp("data") / "set"
    save(folder / "clip_10", sample("carphone", frames=5).frames)
    save(folder / "clip_9", sample("carphone", frames=(40, 43)).frames[:, :50, :67])
    return folder


@pytest.fixture(scope="module")
def report(data):
    return evaluate(build("bicubic", scale=4), data, "folders", temporal=True)


def test_a_report_is_the_metrics_on_what_the_network_made(data, report):
    assert list(report.per_frame) == ["clip_9", "clip_10"]  # natural order
    assert report.frames == {"clip_9": 3, "clip_10": 5}
    assert report.sizes == {"clip_9": (64, 48), "clip_10": (88, 72)}  # what does not fill a pixel is cropped
    high = sample("carphone", frames=(40, 43)).frames[:, :48, :64]
    restored = upscale(build("bicubic", scale=4), downscale_bi(high, 4))
    wanted = {
        "psnr_y_db": psnr_db(restored, high),
        "ssim_y": ssim(restored, high),
        "psnr_rgb_db": psnr_db(restored, high, channel="rgb"),
        "t_diff": t_diff(restored, high),
        "tof": tof(restored, high),
    }
    assert report.per_frame["clip_9"].keys() == wanted.keys()
    for metric, curve in wanted.items():
        assert report.per_frame["clip_9"][metric] == pytest.approx(curve, nan_ok=True)


def test_the_mean_is_over_frames_then_over_clips(report):
    for metric in METRICS:
        clips = [np.nanmean(report.per_frame[clip][metric]) for clip in report.per_frame]
        assert [report.per_clip[clip][metric] for clip in report.per_clip] == pytest.approx(clips)
        assert report.mean[metric] == pytest.approx(np.mean(clips))


def test_a_perfect_network_on_pictures_of_large_pixels(tmp_path):
    """Pictures made of equal 32x32 blocks: the low picture keeps the inner pixels exactly, borders of blocks ring."""
    save(tmp_path / "flat", np.stack([np.full((32, 32, 3), level, np.uint8) for level in (0, 7, 255)]))
    report = evaluate(Nearest(), tmp_path, "folders", temporal=True)
    assert report.per_frame["flat"]["psnr_y_db"] == [math.inf] * 3
    assert report.per_frame["flat"]["ssim_y"] == pytest.approx([1] * 3)
    assert report.mean["psnr_y_db"] == math.inf
    assert report.mean["t_diff"] == 0


def test_json_has_no_infinity_and_no_nan(tmp_path):
    save(tmp_path / "flat", np.zeros((2, 32, 32, 3), np.uint8))
    report = evaluate(Nearest(), tmp_path, "folders", temporal=True)

    def refuse(word):
        raise AssertionError(word)

    read = json.loads(tables.to_json(report), parse_constant=refuse)
    assert read["per_frame"]["flat"]["psnr_y_db"] == [None, None]
    assert read["mean"]["psnr_y_db"] is None
    assert read["per_frame"]["flat"]["t_diff"] == [None, 0]
    assert read["mean"]["tof"] == 0


def test_json_says_where_the_numbers_come_from(data, report):
    read = json.loads(tables.to_json(report))
    assert read["format"] == 1
    assert read["protocol"] == {
        "name": "folders",
        "description": PROTOCOLS["folders"].description,
        "layout": "folders",
        "degradation": "bi",
        "scale": 4,
        "channel": "y",
        "crop": 0,
        "data": "",
    }
    assert (read["network"], read["data"], read["frames"]) == ("bicubic", "set", {"clip_9": 3, "clip_10": 5})
    assert str(data.parent) not in tables.to_json(report)
    assert read["metrics"]["tof"] == {"title": "tOF", "unit": "px", "higher_is_better": False}
    assert read["provenance"]["torch"] == torch.__version__
    assert read["per_frame"]["clip_10"]["ssim_y"] == report.per_frame["clip_10"]["ssim_y"]


def test_temporal_metrics_are_left_out_unless_asked(data):
    report = evaluate(Nearest(), data, "folders")
    assert report.metrics == ["psnr_y_db", "ssim_y", "psnr_rgb_db"]
    assert "tOF" not in tables.to_text(report)


def test_progress_and_names(data):
    seen = []
    report = evaluate(Nearest(), data, PROTOCOLS["folders"], name="mine", progress=lambda *step: seen.append(step))
    assert seen == [("clip_9", 0, 2), ("clip_10", 1, 2), ("", 2, 2)]
    assert report.network == "mine"
    assert evaluate(Nearest(), data, "folders").network == "Nearest"


def test_the_network_is_left_as_it_was(data):
    network = build("edvr_tiny", scale=4).train()
    evaluate(network, data, "folders")
    assert network.training


def test_what_cannot_be_scored(data, tmp_path):
    with pytest.raises(UnknownNameError, match="no protocol 'vid5'; did you mean 'vid4'"):
        evaluate(Nearest(), data, "vid5")
    with pytest.raises(ConfigError, match="scores x4, but the network enlarges x2"):
        evaluate(Nearest(scale=2), data, "folders")
    with pytest.raises(DataError, match="city is missing"):
        evaluate(Nearest(), data, "vid4")
    with pytest.raises(ShapeError, match=r"clip_9: want \(3, 48, 64, 3\) from the network, got \(3, 96, 128, 3\)"):
        evaluate(Nearest(gain=2), data, "folders")
    assert find_protocol("vid4") is PROTOCOLS["vid4"]


def test_score_takes_the_flow_of_the_truth_and_a_crop():
    high = sample("carphone", frames=3).frames
    low = upscale(build("bicubic", scale=4), downscale_bi(high, 4))
    assert score(low, high, temporal=True)["tof"] == pytest.approx(
        score(low, high, temporal=True, reference_flow=flow(high))["tof"], nan_ok=True
    )
    assert score(low, high, crop=8)["psnr_rgb_db"] == pytest.approx(psnr_db(low, high, channel="rgb", crop=8))


def test_the_mean_of_nothing():
    assert math.isnan(mean_score([math.nan]))
    assert mean_score([1.0, math.inf]) == math.inf


# Tables


def test_all_tables_show_the_same_numbers(report):
    text, markdown = tables.to_text(report), tables.to_markdown(report)
    for scores in (*report.per_clip.values(), report.mean):
        for cell in (f"{scores['psnr_y_db']:.2f}", f"{scores['ssim_y']:.4f}", f"{scores['tof']:.3f}"):
            assert cell in text
            assert cell in markdown
    for word in ("PSNR-Y [dB]", "T-diff [levels]", "tOF [px]", "clip_10", "bicubic on set (folders, BI x4)"):
        assert word in text
        assert word in markdown
    assert "\x1b" not in text
    lines = markdown.splitlines()[2:]
    assert len(lines) == 2 + 2 + 1
    assert {line.count("|") for line in lines} == {8}


def test_names_are_shown_as_they_are(tmp_path):
    save(tmp_path / "[bold]a|b", np.zeros((1, 16, 16, 3), np.uint8))
    report = evaluate(Nearest(), tmp_path, "folders", name="[red]x", temporal=True)
    assert "[bold]a|b" in tables.to_text(report)
    assert "[red]x on" in tables.to_text(report)
    assert "[bold]a\\|b" in tables.to_markdown(report)
    assert " inf " in tables.to_text(report)
    assert " - " in tables.to_text(report)  # a single frame has no temporal metric


def test_render_by_name(report):
    assert tables.render(report, "markdown") == tables.to_markdown(report)
    with pytest.raises(UnknownNameError, match="did you mean 'json'"):
        tables.render(report, "jsn")


# Against published numbers


@needs_vid4
def test_bicubic_on_one_clip_of_vid4_has_the_published_score(tmp_path):
    (tmp_path / "city").symlink_to(VID4 / "GT" / "city", target_is_directory=True)
    scores = evaluate(build("bicubic", scale=4), tmp_path, "folders").per_clip["city"]
    assert (round(scores["psnr_y_db"], 2), round(scores["ssim_y"], 4)) == BICUBIC_VID4["city"]


@needs_vid4
@pytest.mark.slow
def test_bicubic_on_vid4_has_the_published_scores():
    report = evaluate(build("bicubic", scale=4), VID4, "vid4")
    for clip, golden in BICUBIC_VID4.items():
        scores = report.per_clip[clip]
        assert (round(scores["psnr_y_db"], 2), round(scores["ssim_y"], 4)) == golden
    assert (round(report.mean["psnr_y_db"], 2), round(report.mean["ssim_y"], 4)) == (23.78, 0.6347)
    assert sum(report.frames.values()) == 171
