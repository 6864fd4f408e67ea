"""Flow networks: SPyNet (equal to the reference by the golden tensors of BasicVSR) and the compact one of VESPCN."""

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import ShapeError
from workbench.imaging import pad_to_multiple, warp
from workbench.models.layers.flow import IMAGENET_MEAN, IMAGENET_STD, SPyNet, end_point_error
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import count_parameters


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SPyNet()


def images(n=1, height=64, width=96, seed=1):
    coarse = torch.rand(n, 3, 9, 13, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def say_constant(net, level, x, y):
    """Let every level say 0 but one, which says the same flow everywhere."""
    with torch.no_grad():
        for one in net.levels:
            one[-1].weight.zero_()
            one[-1].bias.zero_()
        net.levels[level][-1].bias.copy_(torch.tensor([x, y]))


def test_the_published_number_of_parameters(net):
    """BasicSR's SpyNet: 1,440,300."""
    assert count_parameters(net) == 1_440_300


@torch.inference_mode()
def test_a_new_flow_network_returns_almost_zero_flow(net):
    assert 0 < net(images(seed=1), images(seed=2)).abs().max() < 0.1


@torch.inference_mode()
@pytest.mark.parametrize(("level", "pixels"), [(0, 32), (3, 4), (5, 1)])
def test_flow_of_a_level_is_in_its_own_pixels(net, level, pixels):
    """One pixel of level k is 2^(5-k) pixels of the image; x comes first."""
    say_constant(net, level, 1.0, -0.5)
    flow = net(images(), images(seed=2))
    assert torch.allclose(flow[:, 0], torch.tensor(1.0 * pixels), atol=1e-4)
    assert torch.allclose(flow[:, 1], torch.tensor(-0.5 * pixels), atol=1e-4)


@torch.inference_mode()
def test_other_sizes_are_resized_and_their_flow_is_rescaled(net):
    """20x24 is worked on as 32x32: 3 pixels of 32 are 3 * 24/32 of 24 in x and 3 * 20/32 of 20 in y."""
    say_constant(net, 5, 3.0, 3.0)
    flow = net(images(height=20, width=24), images(height=20, width=24))
    assert torch.allclose(flow[0, :, 7, 11], torch.tensor([3 * 24 / 32, 3 * 20 / 32]), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(1, 1), (2, 70), (33, 31)])
def test_any_size_is_accepted(net, size):
    flow = net(images(2, *size), images(2, *size, seed=2))
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


@torch.inference_mode()
def test_each_level_warps_the_neighbor_by_the_coarser_flow(net):
    """The neighbor is the reference 32 pixels further right; the coarsest level says so (1 of its pixels).

    The next level, where that is 2 pixels, then reads two images that are alike, and that flow.
    """
    say_constant(net, 0, 1.0, 0.0)
    reference = images(height=256, width=256)
    neighbor = reference.roll(32, dims=-1)
    seen = []
    net.levels[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    flow = net(reference, neighbor)
    fixed, warped, so_far = seen[0].split([3, 3, 2], dim=1)
    assert torch.allclose(fixed[..., :-2], warped[..., :-2], atol=1e-5)
    assert torch.equal(warped[..., -1], warped[..., -2])  # beyond the image its border is repeated
    assert torch.allclose(so_far[:, 0], torch.tensor(2.0))
    assert torch.allclose(warp(neighbor, flow)[..., :-32], reference[..., :-32], atol=1e-3)


@torch.inference_mode()
def test_the_pyramid_by_hand(net):
    frame = images()
    levels = net.pyramid(frame)
    assert [tuple(level.shape[-2:]) for level in levels] == [(2, 3), (4, 6), (8, 12), (16, 24), (32, 48), (64, 96)]
    red = (frame[0, 0, :2, :2] - IMAGENET_MEAN[0]) / IMAGENET_STD[0]
    assert torch.allclose(levels[-1][0, 0, :2, :2], red, atol=1e-6)
    assert torch.allclose(levels[-2][0, 0, 0, 0], red.mean(), atol=1e-6)


@torch.inference_mode()
def test_flow_of_a_clip_equals_flow_of_its_pairs(net):
    torch.nn.init.normal_(net.levels[2][-1].weight, std=0.02)
    clip = images(6, 40, 48).unflatten(0, (2, 3))
    to_next, to_previous = net.along(clip)
    assert to_next.shape == to_previous.shape == (2, 2, 2, 40, 48)
    for number in (0, 1):
        earlier, later = clip[:, number], clip[:, number + 1]
        assert torch.allclose(to_next[:, number], net(earlier, later), atol=1e-4)
        assert torch.allclose(to_previous[:, number], net(later, earlier), atol=1e-4)
    assert to_next.abs().max() > 0.1
    net.pairs_per_pass = 3
    assert torch.allclose(net.along(clip)[1], to_previous, atol=1e-4)


@torch.inference_mode()
def test_one_frame_has_no_neighbors(net):
    to_next, to_previous = net.along(torch.rand(2, 1, 3, 5, 6))
    assert to_next.shape == to_previous.shape == (2, 0, 2, 5, 6)


@torch.inference_mode()
def test_autocast_does_not_change_the_flow(net):
    reference, neighbor = images(), images(seed=2)
    exact = net(reference, neighbor)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(reference, neighbor), exact)


@pytest.mark.slow
def test_training_reduces_the_flow_error(net):
    """An image that moved by 2 pixels: from nothing to within half a pixel, by making the warped one look alike."""
    reference = images(height=32, width=32)
    neighbor = reference.roll(2, dims=-1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    for _ in range(30):
        flow = net(reference, neighbor)
        optimizer.zero_grad()
        (warp(neighbor, flow) - reference)[..., 4:-4].abs().mean().backward()
        optimizer.step()
    assert (net(reference, neighbor)[0, 0, 8:-8, 8:-8].mean() - 2).abs() < 0.5


def test_images_of_different_shapes_raise(net):
    with pytest.raises(ShapeError, match=r"flow: .*\(1, 3, 8, 8\) and \(1, 3, 8, 9\)"):
        net(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))


def test_the_compact_flow_network_learns_a_known_motion_within_seconds():
    """From PyTorch's own initial weights the error stays that of zero flow; from ours it falls below a third."""
    draw = torch.Generator().manual_seed(0)
    textures = torch.rand(8, 3, 10, 10, generator=draw)
    textures = F.interpolate(textures, size=(40, 40), mode="bicubic", align_corners=False)

    def pairs():
        shift = torch.randint(-2, 3, (8, 2), generator=draw)
        frames = [textures[:, :, 4:36, 4:36]]
        moved = [
            image[:, 4 - y : 36 - y, 4 - x : 36 - x] for image, (x, y) in zip(textures, shift.tolist(), strict=True)
        ]
        return frames[0], torch.stack(moved), shift.float()[:, :, None, None].expand(-1, -1, 32, 32)

    def error_after(network, steps):
        visible = torch.zeros(8, 32, 32, dtype=torch.bool)
        visible[:, 4:-4, 4:-4] = True
        optimizer, errors = torch.optim.Adam(network.parameters(), 1.5e-3), []
        for _ in range(steps):
            here, there, true = pairs()
            error = end_point_error(network.flow(here, there), true, visible)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            errors.append(error.item() / end_point_error(0 * true, true, visible).item())
        return sum(errors[-10:]) / 10

    torch.manual_seed(0)
    ours = MotionCompensation(flow_gain=8.0)
    theirs = MotionCompensation(flow_gain=8.0)
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    assert error_after(ours, 120) < 0.4
    assert error_after(theirs, 60) > 0.8


@pytest.mark.parametrize("size", [(17, 22), (32, 32)])
def test_the_compact_flow_network_takes_any_size(size):
    network = MotionCompensation(flow_gain=8.0).eval()
    clip = torch.rand(2, 3, 3, *size)
    flow = network.along(clip)
    assert flow.to_next.shape == flow.to_previous.shape == (2, 2, 2, *size)
    padded = pad_to_multiple(clip, 4)
    alone = network.flow(padded[:, 1], padded[:, 0])[..., : size[0], : size[1]]
    assert torch.allclose(flow.to_previous[:, 0], alone, atol=1e-6)
    assert network.along(clip[:, :1]).to_next.shape == (2, 0, 2, *size)
