"""Cuts and what lies between them: scores against the formula, and footage of which every frame is known."""

from collections import Counter

import cv2
import numpy as np
import pytest

from tests.footage import HEIGHT, WIDTH, pan
from workbench.data.preparation.shots import (
    CutDetector,
    FilterSettings,
    Window,
    filter_windows,
    is_repeat,
    motion_score,
    septuplets,
)
from workbench.errors import ConfigError


def scene_cuts(frames):
    detector = CutDetector(HEIGHT, WIDTH)
    return [number for number, frame in enumerate(frames) if detector(frame)]


def found(frames, **rules):
    counts = Counter()
    windows = list(filter_windows(frames, FilterSettings(**rules), counts))
    return windows, counts


def test_the_score_is_that_of_the_formula():
    frames = np.random.default_rng(0).integers(0, 256, (6, HEIGHT, WIDTH, 3), np.uint8)
    frames[3:] //= 3
    cut, seen = CutDetector(HEIGHT, WIDTH), []
    for frame in frames:
        cut(frame)
        seen.append(cut.score)
    change = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) / 256 * 100
    wanted = [0, *(min(now, abs(now - before)) for now, before in zip(change, [0, *change], strict=False))]
    assert seen == pytest.approx(wanted, abs=2e-3)  # FFmpeg writes three decimals


def test_cuts_are_found_where_they_are():
    assert scene_cuts([*pan(9), *pan(5, seed=1), *pan(4, seed=2)]) == [9, 14]


@pytest.mark.parametrize("step", [0, 1, 3, 8])
def test_a_shot_that_moves_is_not_cut(step):
    """At 8 pixels a frame every frame differs from the last by more than the threshold; only at first is that news."""
    assert scene_cuts(pan(40, step=step)) == ([1] if step == 8 else [])


def test_frames_may_be_noncontiguous_in_memory():
    frames = [frame[:, ::-1] for frame in [*pan(3), *pan(3, seed=1)]]
    assert scene_cuts(frames) == [3]


def test_the_motion_score_by_hand():
    luma = np.zeros((3, 2, 2), np.uint8)
    luma[1, 0, 0], luma[2, 0, 0] = 8, 4  # one pixel of four: changes by 8, then by 4
    assert motion_score(luma) == pytest.approx((8 / 4 + 4 / 4) / 2)


def test_a_small_moving_object_is_no_repeated_frame():
    """Over the whole frame the mean change is 0.4 levels; in its own square it is 5."""
    still = np.full((HEIGHT, WIDTH), 100, np.uint8)
    moved = still.copy()
    moved[20:28, 20:28] += 20
    noisy = (still + np.random.default_rng(0).integers(0, 2, still.shape)).astype(np.uint8)
    assert is_repeat(still, still, 1.0)
    assert is_repeat(noisy, still, 1.0)
    assert not is_repeat(moved, still, 1.0)


def test_windows_are_the_frames_in_order():
    frames = pan(23)
    windows, counts = found(frames)
    assert [window.numbers for window in windows] == [tuple(range(n, n + 7)) for n in (0, 7, 14)]
    assert {window.segment for window in windows} == {0}
    for window in windows:
        assert np.array_equal(window.frames, [frames[n] for n in window.numbers])
        assert np.array_equal(window.luma[2], cv2.cvtColor(window.frames[2], cv2.COLOR_RGB2GRAY))
    assert counts == {"frames": 23, "rest": 2}


def test_a_chunk_ends_at_a_cut():
    windows, counts = found([*pan(10), *pan(16, seed=1)])
    assert [(window.segment, window.numbers[0]) for window in windows] == [(0, 0), (1, 10), (1, 17)]
    assert counts == {"frames": 26, "cuts": 1, "rest": 3 + 2}


def test_black_frames_end_a_chunk():
    black = [np.full((HEIGHT, WIDTH, 3), 3, np.uint8)] * 5
    windows, counts = found([*pan(8), *black, *pan(7, seed=1)])
    assert [(window.segment, window.numbers[0]) for window in windows] == [(0, 0), (1, 13)]
    assert (counts["black"], counts["rest"]) == (5, 1)


def test_repeated_frames_of_a_25_to_30_conversion_are_removed():
    frames = pan(28)
    stretched = [frame for n, frame in enumerate(frames) for _ in range(2 if n % 5 == 4 else 1)]
    windows, counts = found(stretched)
    assert counts == {"frames": 33, "repeated": 5, "rest": 0}
    assert np.array_equal(np.concatenate([window.frames for window in windows]), frames)
    assert {window.segment for window in windows} == {0}


def test_animation_on_threes_is_one_chunk_and_on_fours_is_still():
    on_threes, _ = found([frame for frame in pan(14) for _ in range(3)])
    assert [window.segment for window in on_threes] == [0, 0]
    on_fours, counts = found([frame for frame in pan(14) for _ in range(4)])
    assert on_fours == []
    assert counts["repeated"] == 3 * 14
    assert counts["rest"] == 14


def test_seven_frames_with_little_motion_end_a_chunk():
    """Only one square moves, by more than a repetition may: 48 of 3072 pixels change by 20 levels, 0.3 on average."""
    frames = pan(7)
    for n in range(7):
        frame = frames[6].copy()
        frame[10:16, 10:18] = 100 + 20 * (n % 2)
        frames.append(frame)
    frames += pan(7, first=7)
    windows, counts = found(frames)
    assert [(window.segment, window.numbers[0]) for window in windows] == [(0, 0), (1, 14)]
    assert counts["still"] == 7
    assert len(found(frames, still_below=0.1)[0]) == 3


def test_the_counts_add_up_to_all_frames():
    rng = np.random.default_rng(4)
    frames = []
    for seed in range(12):
        kind = rng.integers(4)
        count = int(rng.integers(1, 20))
        frames += {0: pan(count, seed=seed), 1: pan(count, seed=seed, step=0), 2: pan(count, seed=seed, step=1)}.get(
            int(kind), [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * count
        )
    windows, counts = found(frames)
    given = 7 * len(windows)
    assert counts["frames"] == len(frames) == given + sum(counts[n] for n in ("black", "repeated", "still", "rest"))
    assert min(counts[name] for name in ("black", "repeated", "cuts", "rest")) > 0
    taken = [number for window in windows for number in window.numbers]
    assert taken == sorted(set(taken))


def windows_of(*lengths):
    """Stretches of numbered frames, given seven at a time."""
    number = 0
    for stretch, length in enumerate(lengths):
        for _ in range(length // 7):
            numbers = tuple(range(number, number + 7))
            frames = np.array(numbers, np.uint8).reshape(7, 1, 1, 1).repeat(3, -1)
            yield Window(stretch, numbers, frames, frames[..., 0])
            number += 7


@pytest.mark.parametrize(
    ("stride", "first", "second"),
    [(7, [0, 7, 14], [21, 28]), (3, [0, 3, 6, 9, 12], [21, 24, 27]), (10, [0, 10], [21]), (50, [0], [21])],
)
def test_septuplets_start_every_stride_frames_of_a_chunk(stride, first, second):
    """Stretches of 21 and 14 frames: a septuplet may begin at frame 14 of the first and at frame 7 of the second."""
    found = list(septuplets(windows_of(21, 14), stride))
    assert [window.numbers[0] for window in found] == first + second
    for window in found:
        assert window.frames[:, 0, 0, 0].tolist() == list(range(window.numbers[0], window.numbers[0] + 7))
        assert window.numbers == tuple(range(window.numbers[0], window.numbers[0] + 7))


@pytest.mark.parametrize(
    ("rules", "pattern"),
    [
        ({"cut_above": 0}, "cut_above: want more than 0"),
        ({"black_below": -1}, "black_below: want 0 to 255"),
        ({"still_below": float("nan")}, "still_below: want 0 to 255 levels, got nan"),
    ],
)
def test_invalid_filter_settings_raise(rules, pattern):
    with pytest.raises(ConfigError, match=pattern):
        FilterSettings(**rules)
    with pytest.raises(ConfigError, match="stride: want 1 or more, got 0"):
        list(septuplets(windows_of(7), 0))
