"""Batches of clips from still images, alone or mixed with footage."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data.sampling.crops import CropSampler, make_pair
from workbench.data.sampling.mixed import MixedSampler
from workbench.data.sampling.motion import MotionSampler, MotionSettings
from workbench.data.sampling.stills import open_stills
from workbench.data.sampling.true_flow import stack_flows
from workbench.errors import DataError


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stills")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (260, 280, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    settings = MotionSettings(crop_size=8, num_frames=3, layer_share=0.5)
    return MotionSampler(open_stills(folder, min_side=settings.min_still_side), settings, seed=4)


def footage(batch, **settings):
    frames = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    return CropSampler([make_pair(frames, scale=4)], crop_size=8, num_frames=3, batch_size=batch, seed=4, **settings)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip((*one[:2], *one[2]), (*other[:2], *other[2]), strict=True))


def test_a_share_of_one_draws_stills_alone(motion):
    sampler = MixedSampler(motion, None, batch_size=2, share=1.0)
    low, high, flow = sampler.at(3)
    assert (low.shape, high.shape) == ((2, 3, 3, 8, 8), (2, 3, 3, 32, 32))
    assert flow.to_next.shape == flow.to_previous.shape == (2, 2, 2, 8, 8)
    assert flow.hidden_next.shape == flow.hidden_previous.shape == (2, 2, 8, 8)
    assert flow.valid.tolist() == [True, True]
    clip = motion.clip(3, 1)
    assert torch.equal(low[1], torch.from_numpy(clip.low).permute(0, 3, 1, 2) / 255)
    assert torch.equal(flow.to_next[1], torch.from_numpy(clip.flow.to_next))
    assert torch.equal(flow.hidden_previous[1], torch.from_numpy(clip.flow.hidden_previous))


def test_video_clips_have_no_flow(motion):
    crops = footage(4)
    low, high, flow = MixedSampler(motion, crops, batch_size=4, share=0.5).at(5)
    assert flow.valid.tolist() == [True, True, False, False]
    assert not flow.to_next[2:].any()
    assert flow.hidden_next[2:].all()
    plain_low, plain_high = crops.at(5)
    assert torch.equal(low[2:], plain_low[2:])
    assert torch.equal(high[2:], plain_high[2:])


@pytest.mark.parametrize(("batch", "share"), [(1, 0.5), (4, 0.3), (3, 0.9), (2, 0.01), (4, 1.0)])
def test_the_share_is_kept_over_the_steps(motion, batch, share):
    sampler = MixedSampler(motion, footage(batch), batch_size=batch, share=share)
    counts = [sampler.stills_at(step) for step in range(1, 1001)]
    assert sum(counts) == round(1000 * batch * share)
    assert max(counts) - min(counts) <= 1


def test_a_batch_does_not_depend_on_the_workers(motion):
    sampler = MixedSampler(motion, footage(3), batch_size=3, share=0.5)
    wanted = [sampler.at(step) for step in range(3, 8)]
    for workers in (0, 1, 2):
        seen = list(sampler.after(2, 7, workers=workers))
        assert len(seen) == 5
        assert all(same(one, other) for one, other in zip(seen, wanted, strict=True))
    assert not same(wanted[0], wanted[2])


def test_two_processes_each_draw_half_of_a_batch(motion):
    sampler = MixedSampler(motion, footage(4), batch_size=4, share=0.5)
    whole, halves = sampler.at(2), [sampler.at(2, slice(rank, None, 2)) for rank in (0, 1)]
    for rank, half in enumerate(halves):
        assert torch.equal(half[0], whole[0][rank::2])
        assert torch.equal(half[2].to_next, whole[2].to_next[rank::2])
        assert half[2].valid.tolist() == [True, False]


def test_fixed_crops_of_video_clips(motion):
    crops = footage(2, num_fixed_crops=3, augmentations_per_crop=2)
    low, _, flow = MixedSampler(motion, crops, batch_size=2, share=0.5).at(2)
    assert flow.valid.tolist() == [True, False]
    assert torch.equal(low[1], crops.at(2)[0][1])


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_invalid_shares_raise(motion, share):
    with pytest.raises(DataError, match="stills_share"):
        MixedSampler(motion, footage(2), batch_size=2, share=share)


def test_unsuitable_video_clips_raise(motion):
    for crops in (None, footage(3)):
        with pytest.raises(DataError, match="batches of 2"):
            MixedSampler(motion, crops, batch_size=2, share=0.5)


def test_parts_of_a_flow_are_selected(motion):
    flow = stack_flows([motion.clip(1, 0).flow, None], frames=3, height=8, width=8)
    first, second = flow.chunk(2)
    assert (first.valid.item(), second.valid.item()) == (True, False)
    assert torch.equal(torch.cat((first.to_next, second.to_next)), flow.to_next)
    assert flow.to(torch.device("cpu")).hidden_next.dtype == torch.bool


def test_decoded_images_are_not_sent_to_loader_processes(motion):
    motion.clip(1, 0)
    assert len(pickle.dumps(MixedSampler(motion, None, batch_size=2, share=1.0))) < 10_000
