"""Flow between frames at any distance, against constant and affine motion worked out by hand."""

import numpy as np
import pytest
import torch

from workbench.data.sampling.true_flow import TrueFlow, clip_flow, stack_flows
from workbench.models.windows import window_indices

HEIGHT, WIDTH = 8, 10


def constant(*steps):
    """Every pixel moves by ``steps[t]`` (x, y) from frame t to the next; nothing is hidden."""
    shape = (1, len(steps), 2, HEIGHT, WIDTH)
    to_next = torch.tensor(steps).view(1, -1, 2, 1, 1).expand(shape)
    hidden = torch.zeros(1, len(steps), HEIGHT, WIDTH, dtype=torch.bool)
    return TrueFlow(to_next, -to_next, hidden, hidden, torch.ones(1, dtype=torch.bool))


@pytest.mark.parametrize("border", ["replicate", "reflection", "reflection_circle", "circle"])
def test_constant_motion_adds_up_for_every_window(border):
    """Border windows included: the flow is the difference of positions, and 0 to a copy of the reference."""
    flow, positions = constant((1.0, 0.5), (-0.25, 2.0), (0.5, 0.0)), [(0.0, 0.0), (1.0, 0.5), (0.75, 2.5), (1.25, 2.5)]
    windows = window_indices(4, 5, border)
    got, hidden = flow.between(windows[:, 2], windows)
    assert got.shape == (1, 4, 5, 2, HEIGHT, WIDTH)
    assert not hidden.any()
    for row, window in enumerate(windows.tolist()):
        for place, frame in enumerate(window):
            wanted = torch.tensor(positions[frame]) - torch.tensor(positions[row])
            assert torch.allclose(got[0, row, place], wanted.view(2, 1, 1), atol=1e-6)


def test_affine_motion_is_composed_exactly():
    """A camera that turns, zooms and moves: the composed flow equals the flow between the two frames themselves."""
    angle, zoom = 0.02, 1.03
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    steps = [np.eye(3)]
    for _ in range(3):
        steps.append(steps[-1] @ np.vstack((np.column_stack((turn, (0.3, -0.4))), (0, 0, 1))))
    camera = np.stack([step[:2] for step in steps])
    points = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))).astype(float)
    flow = stack_flows([clip_flow([camera], points, 1, None)], frames=4, height=HEIGHT, width=WIDTH)
    for reference, neighbor in [(0, 2), (0, 3), (3, 1), (2, 0), (1, 3)]:
        direct = clip_flow([camera[[reference, neighbor]]], points, 1, None)
        got, hidden = flow.between(torch.tensor([reference]), torch.tensor([[neighbor]]))
        seen = ~hidden[0, 0, 0].numpy()
        assert seen.sum() > HEIGHT * WIDTH / 2
        assert not seen[direct.hidden_next[0]].any()
        assert np.abs(got[0, 0, 0].numpy() - direct.to_next[0])[:, seen].max() < 1e-4


def test_pixels_hidden_in_a_frame_between_are_hidden():
    flow = constant((2.0, 0.0), (2.0, 0.0))
    hidden = torch.zeros(1, 2, HEIGHT, WIDTH, dtype=torch.bool)
    hidden[0, 1, 3, 6] = True  # from frame 1 to 2; frame 0 shows that point at column 4
    _, got = flow._replace(hidden_next=hidden).between(torch.tensor([0]), torch.tensor([[1, 2]]))
    assert not got[0, 0, 0].any()
    assert got[0, 0, 1].nonzero().tolist() == [[3, 4]]


def test_a_clip_of_one_frame_has_windows_of_copies():
    flow = stack_flows([None], frames=1, height=HEIGHT, width=WIDTH)
    windows = window_indices(1, 5)
    got, hidden = flow.between(windows[:, 2], windows)
    assert not got.any()
    assert not hidden.any()
