"""Diagnostics of temporal distillation: measures by hand, and findings on the shipped networks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import make_pair, to_batch
from workbench.distill.diagnostics import (
    block_share,
    history_share,
    mean_share,
    phase_share,
    removable_share,
    temporal_signal,
)
from workbench.distill.temporal import ConvLSTM, TemporalMemory
from workbench.errors import ShapeError
from workbench.models.weights import load

OLD = {"stride": 4, "standardize": False, "cells": "last", "border_frames": 0}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_share_on_blocks_by_hand():
    """A checkerboard has none, its sum with a constant of the same power half; white noise 1 of 16 degrees."""
    checkers = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
    assert block_share(checkers, 4) == 0
    assert block_share(checkers + 1, 4) == pytest.approx(0.5)
    assert block_share(F.interpolate(noise(1, 3, 5, 6), scale_factor=4), 4) == pytest.approx(1.0)
    assert block_share(noise(20, 64, 64), 4) == pytest.approx(1 / 16, rel=0.05)
    with pytest.raises(ShapeError, match="multiples of 4"):
        block_share(noise(1, 6, 8), 4)


def test_the_share_of_all_phases_is_that_on_blocks_behind_a_pixel_shuffle():
    before = noise(2 * 16, 5, 6) + noise(2, 1, 5, 6, seed=1).repeat_interleave(16, 1).flatten(0, 1)
    assert phase_share(before, 4) == pytest.approx(block_share(F.pixel_shuffle(before, 4), 4), rel=1e-5)
    assert phase_share(noise(3, 7).repeat_interleave(4, 0), 2) == pytest.approx(1.0)
    with pytest.raises(ShapeError, match="multiple of 16 channels"):
        phase_share(noise(18, 3), 4)


def test_the_share_of_channel_means_by_hand():
    """Differences 3 and 1 at two pixels: mean 2, so 8 of 10."""
    assert mean_share(torch.tensor([3.0, 1.0]).view(1, 1, 2), torch.zeros(1, 1, 2)) == pytest.approx(0.8)
    assert mean_share(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)) == 0


def constant_gates(keep):
    """A ConvLSTM whose cell is C = keep * C + tanh(x) / 2: its gates see nothing."""
    lstm = ConvLSTM(1, 1).requires_grad_(False)
    for part in lstm.parameters():
        part.zero_()
    lstm.input_conv.weight[3, 0, 1, 1] = 1.0
    lstm.input_conv.bias[1] = float(np.log(keep / (1 - keep))) if keep else -50.0
    return lstm


@pytest.mark.parametrize("frames", [2, 4])
def test_the_share_of_history_by_hand(frames):
    """Independent frames, forget gate 1/2: a frame k steps back weighs 2^-k, and so does its copy."""
    lstm = constant_gates(0.5)
    clip = 0.1 * noise(1, frames, 1, 96, 96)
    copies = clip[:, -1:].expand_as(clip)
    back = 0.5 ** np.arange(1, frames)
    wanted = ((back**2).sum() + back.sum() ** 2) / (1 + (back**2).sum())
    assert history_share(lstm(clip)[:, -1], lstm(copies)[:, -1]) == pytest.approx(wanted, rel=0.05)


def test_the_share_of_history_is_zero_without_motion_or_memory():
    still = noise(1, 1, 1, 16, 16).expand(1, 4, 1, 16, 16)
    assert history_share(constant_gates(0.5)(still)[:, -1], constant_gates(0.5)(still)[:, -1]) == 0
    clip, closed = noise(1, 4, 1, 16, 16), constant_gates(0)
    copies = clip[:, -1:].expand_as(clip)
    assert history_share(closed(clip)[:, -1], closed(copies)[:, -1]) == pytest.approx(0, abs=1e-12)


def test_the_share_of_history_ignores_changes_of_the_mean():
    cells = noise(1, 2, 8, 8)
    assert history_share(cells, cells + 3) == pytest.approx(0, abs=1e-10)


def test_a_trained_convlstm_can_remove_the_loss_and_a_frozen_one_cannot():
    student, teacher = noise(1, 3, 4, 8, 8), noise(1, 3, 4, 8, 8, seed=1)
    assert removable_share(TemporalMemory(4, 4, mode="frozen"), student, teacher) == 0
    assert removable_share(TemporalMemory(4, 4, mode="trained"), student, teacher, steps=60) > 0.5


@pytest.fixture(scope="module")
def clips():
    footage = load_clip("bigbuckbunny[100:107, 116:244, 256:384]").frames
    pair = make_pair(footage, scale=4)
    return to_batch([(pair.low, pair.high)])


@pytest.fixture(scope="module")
def measured(clips):
    """Teacher and student with 16 channels each, under the old settings and today's."""
    student, teacher = load("pretrained:vespcn_plain"), load("pretrained:basicvsr_s")
    channels = student.feature_channels, teacher.feature_channels
    return {
        name: temporal_signal(student, teacher, TemporalMemory(*channels, **settings), *clips)
        for name, settings in {"old": OLD, "new": {}, "all": {"cells": "all"}, "fine": {"stride": 1}}.items()
    }


def test_the_gradient_at_the_features_has_detail(measured):
    """Averages over 4x4 at scale 4: no pixel is moved against another one inside a block."""
    assert measured["old"].block_share == pytest.approx(1.0, abs=1e-5)
    for name in ("new", "all"):
        assert measured[name].block_share < 0.5
    assert measured["fine"].block_share < 0.25
    assert measured["new"].reconstruction_block_share < 0.25


def test_the_gradient_before_the_pixel_shuffle_differs_between_phases(measured):
    assert measured["old"].phase_share == pytest.approx(1.0, abs=1e-5)
    for name in ("new", "all", "fine"):
        assert max(measured[name].phase_share, measured[name].reconstruction_phase_share) < 0.5


def test_the_loss_is_not_a_difference_of_channel_means(measured):
    assert measured["old"].mean_share > 0.05
    for name in ("new", "all", "fine"):
        assert measured[name].mean_share < 0.02


def test_the_last_cell_depends_more_on_earlier_frames(measured):
    """As far as a teacher with hardly any temporal content allows."""
    assert 0 < measured["old"].history_share < 0.05
    for name in ("new", "all", "fine"):
        assert measured[name].history_share > 1.5 * measured["old"].history_share


def test_an_adapter_alone_removes_most_of_the_old_loss_and_equal_channels_leave_none(clips, measured):
    student, teacher = load("pretrained:vespcn_plain"), load("pretrained:edvr_s")
    with torch.no_grad():
        ours, theirs = (
            student(clips[0], return_features="hr").features,
            teacher(clips[0], return_features="hr").features,
        )
    assert removable_share(TemporalMemory(16, 32, **OLD), ours, theirs, steps=60) > 0.7
    assert all(signal.removable_share == 0 for signal in measured.values())
