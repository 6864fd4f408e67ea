"""The temporal share of networks whose answer is known by hand."""

import csv
import io
import json
import math

import numpy as np
import pytest
import torch

from workbench.data.datasets.clip_set import ClipEntry, ClipSet, InMemoryFrames
from workbench.data.datasets.samples import sample
from workbench.data.degradation.families import degrade
from workbench.errors import ConfigError, ResultError, UnknownNameError
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.method_table import method_table
from workbench.evaluation.neighbors import NEIGHBORS, NeighborSettings, measure_temporal_share
from workbench.evaluation.protocols import PROTOCOLS
from workbench.evaluation.scores import mean_score, read_scores, write_scores
from workbench.evaluation.tables import format_results
from workbench.imaging import resize_bicubic
from workbench.inference.chunks import upscale
from workbench.metrics.fidelity import psnr_db
from workbench.models.bicubic import Bicubic
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR, WindowOutput
from workbench.models.zoo import build

FOLDERS = PROTOCOLS["folders"]
STEP = 2  # levels by which a frame is brighter than the one before
FAR = 5


class Taps(SlidingWindow):
    """A weighted mean of three frames, enlarged bicubically. The weights are powers of two: copies add up exactly."""

    def __init__(self, *weights):
        super().__init__(scale=4, num_frames=3, border="replicate", skip="none")
        self.weights = weights

    def per_window(self, *pieces, return_features):
        (frames,) = pieces
        return WindowOutput(resize_bicubic(sum(w * frames[:, k] for k, w in enumerate(self.weights)), scale=4))


class Recurrent(VideoSR):
    """A running average along the clip, enlarged bicubically; it notes the first pixel of each frame."""

    temporal_radius = None

    def __init__(self):
        super().__init__(scale=4)
        self.seen = []

    def forward(self, clip, return_features=None):
        self.seen.append([round(255 * level) for level in clip[0, :, 0, 0, 0].tolist()])
        state, states = clip[:, 0], []
        for frame in clip.unbind(1):
            state = (state + frame) / 2
            states.append(state)
        return Upscaled(frames=resize_bicubic(torch.stack(states, 1), scale=4))


def entry(name, frames):
    height, width = frames.shape[1:3]
    return ClipEntry(
        name=name, frames=len(frames), size=(width, height), scale=4, targets=(3,), source=InMemoryFrames(frames)
    )  # fmt: skip


def clips(*held):
    names = [f"clip_{number}" for number in range(len(held))]
    entries = tuple(entry(name, frames) for name, frames in zip(names, held, strict=True))
    return ClipSet(name="Held", scale=4, degradation=None, clips=entries)


def brighter(frames=20, brightness=0, size=(48, 64)):
    """One image of fine detail in the middle of the range, each frame brighter than the one before."""
    detail = np.random.default_rng(0).integers(60, 120, (*size, 3))
    return np.stack([detail + brightness + STEP * t for t in range(frames)]).astype(np.uint8)


def flat(levels, size=(48, 64)):
    return np.stack([np.full((*size, 3), level, np.uint8) for level in levels])


@pytest.fixture(scope="module")
def pair():
    """Two clips; a frame of the second is 16 levels brighter than the same frame of the first."""
    return clips(brighter(), brighter(brightness=16))


def gain_of_offset(clip, number, levels):
    """Return the gain over bicubic of a bicubic result that is too bright by a number of levels."""
    truth = clip.high(number, number + 1)
    bicubic = upscale(Bicubic(), degrade(truth, "bi", 4))
    shifted = (bicubic.astype(int) + levels).astype(np.uint8)
    return (psnr_db(shifted, truth) - psnr_db(bicubic, truth)).item()


SETTINGS = NeighborSettings(frames_per_clip=3, displacement=FAR)


# -- known answers --------------------------------------------------------------------------------------------------
def test_the_temporal_share_of_a_temporal_mean_by_hand(pair):
    """Brightness rises evenly: true and reversed neighbors of frame t have its mean, so the result is bicubic's.

    Neighbors 5 frames away are (5 - 1) * 2 and (5 + 1) * 2 levels off, of which a quarter each arrives; those of the
    other clip are 16 levels off, of which half arrives.
    """
    share = measure_temporal_share(Taps(0.25, 0.5, 0.25), pair, FOLDERS, SETTINGS)
    assert share.numbers == {"clip_0": [4, 10, 16], "clip_1": [4, 10, 16]}
    for kind in ("true", "copies", "reversed"):
        assert share.gains(kind) == {"clip_0": [0, 0, 0], "clip_1": [0, 0, 0]}
    first = pair["clip_0"]
    later, earlier = (4 * STEP + 6 * STEP) // 4, -(4 * STEP + 6 * STEP) // 4
    assert share.gains("far")["clip_0"] == pytest.approx(
        [gain_of_offset(first, 4, later), gain_of_offset(first, 10, later), gain_of_offset(first, 16, earlier)]
    )
    assert share.gains("other")["clip_0"] == pytest.approx([gain_of_offset(first, n, 8) for n in (4, 10, 16)])
    assert share.other_clips == {"clip_0": "clip_1", "clip_1": "clip_0"}
    assert share.true_minus_copies() == 0
    assert share.mean_gain()["far"] < -0.5


def test_reversed_swaps_past_and_future(pair):
    """Only the frame before counts, and by half: one level darker with true neighbors, one brighter with reversed."""
    share = measure_temporal_share(Taps(0.5, 0.5, 0), pair, FOLDERS, SETTINGS)
    first = pair["clip_0"]
    assert share.gains("true")["clip_0"][0] == pytest.approx(gain_of_offset(first, 4, -STEP // 2))
    assert share.gains("reversed")["clip_0"][0] == pytest.approx(gain_of_offset(first, 4, STEP // 2))
    assert share.gains("copies")["clip_0"] == [0, 0, 0]
    assert share.true_minus_copies() == share.mean_gain()["true"] != 0


@pytest.mark.parametrize("network", [Taps(0, 1, 0), Bicubic()])
def test_a_network_of_single_images_has_no_temporal_share(network):
    moving = sample("carphone", frames=30).frames
    share = measure_temporal_share(network, clips(moving, moving[::-1].copy()), FOLDERS, NeighborSettings())
    assert set(share.psnr_y) == set(NEIGHBORS)
    for kind in NEIGHBORS:
        assert share.psnr_y[kind] == share.psnr_y["true"]
        assert share.mean_gain()[kind] == 0
    assert share.true_minus_copies() == 0


def test_a_network_of_single_images_that_gains_has_no_temporal_share():
    """The same with a network that is not bicubic: sharpened by the difference to its own blur."""

    class Sharper(Bicubic):
        def forward(self, clip, return_features=None):
            frames = super().forward(clip).frames
            soft = torch.nn.functional.avg_pool2d(frames[0], 5, 1, 2)[None]
            return Upscaled(frames=frames + 0.2 * (frames - soft))

    moving = sample("carphone", frames=30).frames
    share = measure_temporal_share(Sharper(), clips(moving), FOLDERS, NeighborSettings(names=["true", "copies"]))
    assert share.mean_gain()["true"] == share.mean_gain()["copies"] != 0
    assert share.true_minus_copies() == 0


def test_a_recurrent_network_gets_the_same_bounded_window_for_all_neighbors():
    network = Recurrent()
    both = clips(flat(range(10, 40)), flat(range(110, 140), size=(40, 80)))
    settings = NeighborSettings(frames_per_clip=1, window=5)
    share = measure_temporal_share(network, both.only(["clip_0"]), FOLDERS, settings, others=both)
    assert (share.window, share.numbers) == (5, {"clip_0": [19]})  # frames 2 to 10 and 19 to 27 are complete
    assert network.seen == [
        [27, 28, 29, 30, 31],
        [29, 29, 29, 29, 29],
        [31, 30, 29, 28, 27],
        [10, 11, 29, 13, 14],
        [127, 128, 29, 130, 131],
    ]


def test_copies_in_a_recurrent_network():
    """A running average of equal frames is that frame; that of two true ones is half a step too dark."""
    share = measure_temporal_share(
        Recurrent(), clips(brighter()), FOLDERS, NeighborSettings(names=["true", "copies"], window=3, frames_per_clip=1)
    )
    (number,) = share.numbers["clip_0"]
    assert share.mean_gain()["copies"] == 0
    assert share.mean_gain()["true"] == pytest.approx(gain_of_offset(entry("", brighter()), number, -STEP // 2))
    assert share.true_minus_copies() == share.mean_gain()["true"]


# -- which frames ---------------------------------------------------------------------------------------------------
def numbers(frames, protocol=FOLDERS, network=None, **settings):
    held = clips(flat(range(frames)))
    return measure_temporal_share(
        network or Taps(0, 1, 0), held, protocol, NeighborSettings(**{"names": ["copies"], **settings})
    ).numbers["clip_0"]


def test_frames_with_complete_windows_evenly_spaced():
    assert numbers(10) == [3, 7]  # of 1 to 8
    assert numbers(10, frames_per_clip=1) == [5]
    assert numbers(10, frames_per_clip=99) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers(3) == [1]
    assert numbers(10, frames_per_clip=99, names=["far"], displacement=5) == [1, 2, 3, 6, 7, 8]


def test_only_scored_frames_of_the_protocol_are_used():
    assert numbers(7, PROTOCOLS["vimeo90k_t"]) == [3]
    assert numbers(9, FOLDERS.change(skip=3), frames_per_clip=9) == [3, 4, 5]


def test_clips_of_other_sizes_and_lengths_are_neighbors():
    """Cropped around the center where larger; enlarged where smaller; the nearest frames where shorter."""
    network = Recurrent()
    wide = flat([200, 201, 202], size=(40, 200))
    wide[:, :, :60] = wide[:, :, -60:] = 0  # beyond the crop: 64 columns enlarged from 53
    sets = clips(flat(range(30)), wide)
    settings = NeighborSettings(names=["other"], window=3, frames_per_clip=1)
    measure_temporal_share(network, sets.only(["clip_0"]), FOLDERS, settings, others=sets)
    assert network.seen == [[200, 15, 202]]


def test_only_scored_pixels_of_the_protocol_are_used():
    moving = sample("carphone", frames=4).frames
    share = measure_temporal_share(
        Bicubic(), clips(moving), FOLDERS.change(crop_border=8, degradation="bd_duf"), NeighborSettings(names=["true"])
    )
    wanted = psnr_db(upscale(Bicubic(), degrade(moving, "bd_duf", 4)), moving, crop_border=8)
    assert share.bicubic["clip_0"] == pytest.approx([wanted[n].item() for n in share.numbers["clip_0"]])


def test_means_by_clips_or_by_frames(pair):
    both = measure_temporal_share(Taps(0.5, 0.5, 0), pair, FOLDERS, SETTINGS)
    flat_mean = measure_temporal_share(Taps(0.5, 0.5, 0), pair, FOLDERS.change(averaging="frames"), SETTINGS)
    gains = both.gains("true")
    assert both.mean_gain()["true"] == pytest.approx(mean_score(map(mean_score, gains.values())))
    assert flat_mean.mean_gain()["true"] == pytest.approx(mean_score(g for curve in gains.values() for g in curve))


def test_progress_counts_renderings(pair):
    seen = []
    settings = NeighborSettings(names=["true", "copies"], frames_per_clip=1)
    measure_temporal_share(Bicubic(), pair, FOLDERS, settings, progress=lambda *step: seen.append(step))
    assert seen == [
        ("clip_0, neighbors true", 0, 4),
        ("clip_0, neighbors copies", 1, 4),
        ("clip_1, neighbors true", 2, 4),
        ("clip_1, neighbors copies", 3, 4),
        ("neighbors", 4, 4),
    ]


# -- in a report ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def report():
    both = clips(brighter(), brighter(brightness=16))
    return evaluate(Taps(0.5, 0.5, 0), both, "folders", name="half", neighbors=SETTINGS)


def test_scores_without_a_temporal_share_do_not_change(pair):
    assert "temporal_share" not in evaluate(Bicubic(), pair, "folders").to_dict()


def test_scores_store_the_temporal_share(report, tmp_path):
    write_scores(tmp_path / "scores.json", [report])
    (read,) = read_scores(tmp_path / "scores.json")
    share = read["temporal_share"]
    assert share == json.loads(json.dumps(report.temporal_share.to_dict(), allow_nan=False))
    assert (share["window"], share["displacement"]) == (3, FAR)
    assert share["gain_db"] == report.temporal_share.mean_gain()
    assert share["true_minus_copies_db"] == share["gain_db"]["true"] - share["gain_db"]["copies"]
    assert share["per_frame"]["clip_0"]["number"] == [4, 10, 16]
    assert share["per_frame"]["clip_0"]["psnr_y_db"].keys() == set(NEIGHBORS)
    assert share["per_clip"]["clip_1"]["gain_db"]["copies"] == 0
    assert share["bicubic_db"] == pytest.approx(report.mean["psnr_y_db"], abs=3)
    assert "temporal_share" in json.loads(format_results(report, "json"))["scores"][0]


def test_equal_frames_are_null_in_json():
    same = clips(flat(range(5)))
    share = measure_temporal_share(Bicubic(), same, FOLDERS, NeighborSettings(names=["true", "copies"]))
    assert math.isnan(share.mean_gain()["true"])
    saved = json.loads(json.dumps(share.to_dict(), allow_nan=False))
    assert (saved["gain_db"], saved["true_minus_copies_db"]) == ({"true": None, "copies": None}, None)


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_tables_show_the_temporal_share(report, form):
    page = " ".join(format_results(report, form).replace("\\_", "_").split())
    gain = report.temporal_share.mean_gain()
    assert "Temporal share of half on Held" in page
    assert "4, 10, 16" in page
    assert all(f"{value:+.3f}" in page for value in gain.values())
    assert f"{gain['true'] - gain['copies']:+.3f}" in page
    assert "window of 3" in page
    assert "displacement: 5 frames" in page


def test_csv_and_json_have_the_temporal_share(report, pair):
    rows = list(csv.DictReader(io.StringIO(format_results([report, evaluate(Bicubic(), pair, "folders")], "csv"))))
    assert list(rows[0])[-5:] == ["gain_true_db", "gain_copies_db", "gain_reversed_db", "gain_far_db", "gain_other_db"]
    assert float(rows[2]["gain_far_db"]) == report.temporal_share.mean_gain()["far"]
    assert float(rows[1]["gain_other_db"]) == report.temporal_share.clip_gain("clip_1")["other"]
    assert rows[5]["gain_true_db"] == ""
    table = method_table([report, evaluate(Bicubic(), pair, "folders")])
    assert [cell.texts for cell in table.rows["gain, copies [dB]"]] == [("+0.000",), ("-",)]
    assert table.data[0]["temporal_share"] == report.temporal_share.to_dict()
    assert "temporal_share" not in table.data[1]
    assert "window of 3" in table.caption


# -- what cannot be measured ----------------------------------------------------------------------------------------
def test_unknown_neighbors_raise_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"neighbors 'copy'; .*'copies'") as refused:
        NeighborSettings(names=["true", "copy"])
    assert all(name in str(refused.value) for name in NEIGHBORS)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"names": []}, "neighbors: got none"),
        ({"names": ["true", "true"]}, "neighbors: got true,true"),
        ({"frames_per_clip": 0}, "neighbor_frames: got 0"),
        ({"window": 4}, "neighbor_window: got 4"),
        ({"window": 1}, "neighbor_window: got 1"),
        ({"displacement": 0}, "displacement: got 0"),
    ],
)
def test_settings_without_effect_raise(settings, field):
    with pytest.raises(ConfigError, match=field):
        NeighborSettings(**settings)


def test_clips_that_are_too_short_or_alone_raise():
    with pytest.raises(ConfigError, match=r"clip_0: got 2 frames.* window of 3"):
        numbers(2)
    with pytest.raises(ConfigError, match=r"clip_0: got 18 frames.* 17 frames"):
        numbers(18, names=["far"])
    with pytest.raises(ConfigError, match=r"clip_0: got 6 frames.* window of 7"):
        numbers(6, network=Recurrent())
    with pytest.raises(ConfigError, match=r"clip_0: got .*1 clips.* 3 frames"):
        numbers(9, names=["other"])


def test_invalid_settings_raise_before_scoring(pair):
    seen = []
    with pytest.raises(ConfigError, match="clip_0"):
        evaluate(
            build("bicubic"), pair.only(["clip_0"]), "folders", neighbors=NeighborSettings(), progress=seen.append
        )  # fmt: skip
    assert seen == []


def test_nan_raises_with_clip_frame_and_neighbors(pair):
    class Broken(Taps):
        def per_window(self, *pieces, return_features):
            made = super().per_window(*pieces, return_features=return_features).residual
            return WindowOutput(made * (math.nan if torch.equal(pieces[0][:, 0], pieces[0][:, 1]) else 1))

    with pytest.raises(ResultError, match="clip_0, frame 4, neighbors copies: NaN"):
        measure_temporal_share(Broken(0, 1, 0), pair, FOLDERS, SETTINGS)
