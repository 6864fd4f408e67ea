"""SPMC: forward warping against what is known by hand and against a loop, the memory, and who goes where."""

import itertools
import math

import pytest
import torch

from workbench.errors import ShapeError
from workbench.imaging import resize_bicubic, rgb_to_ycbcr
from workbench.models.spmc import SPMC, ConvLSTMCell, splat
from workbench.models.video_sr import count_parameters
from workbench.models.zoo import build


@pytest.mark.parametrize(
    ("part", "count"), [("motion", 53_392), ("all but motion", 1_668_769), ("everything", 1_722_161)]
)
def test_it_has_the_published_number_of_parameters(part, count):
    """Counts of running the re-implementation by PFNL's authors, who started from the authors' code."""
    with torch.device("meta"):
        network = build("spmc")
    motion, everything = count_parameters(network.motion), count_parameters(network)
    assert {"motion": motion, "all but motion": everything - motion, "everything": everything}[part] == count


def flow_of(dx, dy, height, width, n=1):
    return torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1).repeat(n, 1, height, width)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_zero_flow_moves_pixels_to_multiples_of_the_scale(scale):
    image = torch.rand(2, 3, 4, 5)
    landed = splat(image, torch.zeros(2, 2, 4, 5), scale=scale)
    assert torch.equal(landed[..., ::scale, ::scale], image)
    landed[..., ::scale, ::scale] = 0
    assert landed.abs().max() == 0


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, 2), (-2, 1)])
def test_integer_flow_shifts_and_the_border_collects_values(dx, dy):
    image = torch.rand(1, 2, 6, 7)
    wanted = torch.zeros_like(image)
    for y, x in itertools.product(range(6), range(7)):
        wanted[..., min(max(y + dy, 0), 5), min(max(x + dx, 0), 6)] += image[..., y, x]
    assert torch.allclose(splat(image, flow_of(dx, dy, 6, 7), scale=1), wanted, atol=1e-6)


def test_a_flow_of_a_quarter_pixel_is_split_on_a_grid_of_scale_two():
    """2 * 0.25 = 0.5: half of each pixel stays, half goes one to the right."""
    landed = splat(torch.tensor([[[[4.0, 8.0]]]]), flow_of(0.25, 0, 1, 2), scale=2)
    assert landed.tolist() == [[[[2.0, 2.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]]]]


def test_pixels_with_the_same_target_add_up():
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 0, 0] = torch.tensor([1.0, 0.0, -1.0])
    assert splat(torch.tensor([[[[1.0, 2.0, 4.0]]]]), flow, scale=1).tolist() == [[[[0.0, 7.0, 0.0]]]]


@pytest.mark.parametrize("scale", [1, 4])
def test_the_sum_of_values_is_kept(scale):
    """Also of what flies off: it stays on the border."""
    image, flow = torch.rand(2, 3, 6, 7, dtype=torch.float64), torch.randn(2, 2, 6, 7, dtype=torch.float64) * 4
    assert torch.allclose(splat(image, flow, scale=scale).sum((2, 3)), image.sum((2, 3)), rtol=1e-12)


def test_the_layer_equals_a_loop():
    """The tent function of the docstring at every pair of pixels; inside, where nothing touches the border."""
    torch.manual_seed(0)
    image, flow = torch.rand(2, 2, 4, 5, dtype=torch.float64), torch.rand(2, 2, 4, 5, dtype=torch.float64) * 0.9
    image[..., -1, :] = image[..., :, -1] = 0
    wanted = torch.zeros(2, 2, 8, 10, dtype=torch.float64)
    for n, y, x, row, column in itertools.product(range(2), range(4), range(5), range(8), range(10)):
        u, v = flow[n, :, y, x].tolist()
        tent = max(0, 1 - abs(2 * (x + u) - column)) * max(0, 1 - abs(2 * (y + v) - row))
        wanted[n, :, row, column] += image[n, :, y, x] * tent
    assert torch.allclose(splat(image, flow, scale=2), wanted, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 2])
def test_gradients_of_values_and_of_flow(scale):
    """Away from whole positions, where the tent has a corner."""
    torch.manual_seed(0)
    image = torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    flow = torch.randint(-2, 3, (1, 2, 3, 4)) + torch.rand(1, 2, 3, 4, dtype=torch.float64) * 0.3 + 0.1
    assert torch.autograd.gradcheck(lambda p, f: splat(p, f, scale=scale), (image, flow.requires_grad_()))


def test_a_nan_flow_gives_nan_values_and_no_index_error():
    """A diverged training shall stop at its loss, not in a memory fault."""
    for number in (math.nan, math.inf, -1e30):
        assert splat(torch.rand(1, 1, 2, 3), torch.full((1, 2, 2, 3), number), scale=4).shape == (1, 1, 8, 12)
    assert splat(torch.rand(1, 1, 2, 3), torch.full((1, 2, 2, 3), math.nan), scale=4).isnan().any()


def test_positions_are_float32_under_half_precision():
    image, flow = torch.rand(1, 1, 4, 300), flow_of(0.1, 0, 4, 300)
    exact = splat(image, flow, scale=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(splat(image, flow, scale=4), exact)


def test_a_flow_of_another_size_raises():
    with pytest.raises(ShapeError, match=r"flow: want \(1, 2, 4, 4\), got \(1, 2, 4, 5\)"):
        splat(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 5), scale=2)


@torch.inference_mode()
def test_a_cell_with_zero_weights_decays_by_the_forget_bias():
    """Gates of 0: the old cell times sigmoid(1), half of tanh(0) written, half of tanh(cell) shown."""
    cell = ConvLSTMCell(2)
    for parameter in cell.parameters():
        parameter.zero_()
    hidden, memory = cell(torch.rand(1, 2, 3, 3), (torch.rand(1, 2, 3, 3), torch.ones(1, 2, 3, 3)))
    kept = 1 / (1 + math.exp(-1))
    assert torch.allclose(memory, torch.tensor(kept))
    assert torch.allclose(hidden, torch.tensor(0.5 * math.tanh(kept)))


@torch.inference_mode()
def test_the_order_of_gates():
    cell = ConvLSTMCell(1)
    for parameter in cell.parameters():
        parameter.zero_()
    cell.gates.bias.copy_(torch.tensor([100.0, 0.3, -100.0, 100.0]))  # write all, forget all, show all
    hidden, memory = cell(torch.zeros(1, 1, 2, 2), None)
    assert torch.allclose(memory, torch.tensor(math.tanh(0.3)))
    assert torch.allclose(hidden, torch.tensor(math.tanh(math.tanh(0.3))))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SPMC(channels=4, num_frames=3).eval().requires_grad_(False)


def test_every_frame_is_moved_to_the_grid_of_the_reference(network):
    """One pixel to the right, two up, for all three frames: 4 and 8 pixels on the grid that is 4 times finer."""
    clip = torch.rand(1, 3, 3, 8, 8)
    luma = rgb_to_ycbcr(clip)[:, :, :1]
    asked, entered = [], []

    def flow(frames, reference):
        asked.append((frames, reference))
        return flow_of(1, -2, 8, 8, n=3)

    network.motion.flow = flow
    network.enter.register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    network.windows_per_pass = 3
    network.upscale_windows(clip, torch.tensor([[0, 1, 2]]))
    frames, reference = asked[0]
    assert torch.equal(frames, luma[0])
    assert torch.equal(reference, luma[:, 1].expand(3, -1, -1, -1))
    assert entered[0].shape == (3, 1, 32, 32)
    assert torch.allclose(entered[0][..., 4:20:4, 4:28:4], luma[0, :, :, 3:7, :6], atol=1e-6)


def test_frames_pass_the_convlstm_in_order_and_the_last_is_decoded(network):
    clip = torch.rand(1, 3, 3, 8, 8)
    steps = []
    network.memory.register_forward_hook(lambda _module, inputs, output: steps.append((inputs, output)))
    network.upscale_windows(clip, torch.tensor([[0, 1, 2]]))
    assert len(steps) == 3
    assert steps[0][0][1] is None
    for before, after in itertools.pairwise(steps):
        assert after[0][1] is before[1]
    decoded = []
    network.recall.register_forward_pre_hook(lambda _module, inputs: decoded.append(inputs[0]))
    network.upscale_windows(clip, torch.tensor([[0, 1, 2]]))
    assert torch.equal(decoded[0], steps[2][1][0])


def test_the_output_depends_on_every_frame(network):
    clip = torch.rand(1, 3, 3, 8, 8)
    plain = network(clip).frames[:, 1]
    for frame in range(3):
        other = clip.clone()
        other[:, frame] = 1 - other[:, frame]
        assert (network(other).frames[:, 1] - plain).abs().max() > 1e-4


def test_features_of_every_layer(network):
    clip = torch.rand(1, 2, 3, 8, 8)
    hr, hr_pre, shuffle = (network(clip, return_features=layer).features for layer in ("hr", "hr_pre", "shuffle"))
    assert torch.equal(hr, hr_pre.relu())
    assert torch.allclose(network.full_size(shuffle[0]), hr_pre[0], atol=1e-5)
    luma = network.exit(hr[0])
    change = rgb_to_ycbcr(network(clip).frames[0]) - rgb_to_ycbcr(resize_bicubic(clip[0], scale=4))
    assert torch.allclose(change[:, :1], luma, atol=1e-5)


def test_a_new_network_returns_bicubic():
    torch.manual_seed(0)
    clip = torch.rand(1, 3, 3, 8, 8)
    with torch.inference_mode():
        assert (build("spmc").eval()(clip).frames - resize_bicubic(clip, scale=4)).abs().mean() < 0.05
