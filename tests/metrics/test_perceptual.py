import math

import numpy as np
import pytest
import torch

from workbench.errors import ShapeError, WeightsError
from workbench.metrics import perceptual
from workbench.metrics.perceptual import LPIPS, TRUNK, frame_lpips, load_lpips
from workbench.metrics.scorer import Scorer


def wave(seed, *shape):
    """Weights made by arithmetic: what came out of the authors' package with the same ones is written down below."""
    count = math.prod(shape)
    values = torch.sin(torch.arange(count, dtype=torch.float64) * (12.9898 + seed))
    return values.float().reshape(shape)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A file like AlexNet's, with other numbers."""
    state = {}
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    for number, (out, into, size) in shapes.items():
        weight = wave(number, out, into, size, size)
        state[f"features.{number}.weight"] = weight * 2 / (into * size * size) ** 0.5
        state[f"features.{number}.bias"] = wave(number + 0.5, out) * 0.1 / 1.0
    path = tmp_path_factory.mktemp("weights") / "trunk.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def network(trunk):
    return load_lpips(trunk)


def images():
    rows, columns = np.mgrid[:67, :90]
    first = [127 + 100 * np.sin(columns / 7 + c) * np.cos(rows / (5 + c)) for c in range(3)]
    second = [127 + 90 * np.sin(columns / 7 + c + 0.4) * np.cos(rows / (6 + c)) for c in range(3)]
    return tuple(np.stack(planes, axis=-1).round().astype(np.uint8) for planes in (first, second))


def test_lpips_equals_the_package_of_its_authors(network):
    """0.159004 came out of lpips 0.1.4 with these trunk weights, its own linear ones, and these images."""
    first, second = images()
    assert frame_lpips(first, second, network) == pytest.approx(0.15900439, abs=2e-6)


def test_lpips_is_zero_symmetric_and_increasing(network):
    first, second = images()
    assert frame_lpips(first, first, network) == 0
    assert frame_lpips(first, second, network) == pytest.approx(frame_lpips(second, first, network))
    little = (0.9 * first + 0.1 * second).astype(np.uint8)
    assert 0 < frame_lpips(first, little, network) < frame_lpips(first, second, network)


def scored(frames, reference, network):
    scorer = Scorer(metrics=["lpips", "tlp"], network=network)
    for frame, truth in zip(frames, reference, strict=True):
        scorer.add(frame, truth)
    return scorer.curves


def test_tlp_is_the_difference_of_the_steps(network):
    first, second = images()
    still, moving = np.stack([first, first]), np.stack([first, second])
    curves = scored(still, moving, network)
    assert math.isnan(curves["tlp"][0])
    assert curves["tlp"][1] == pytest.approx(15.900439, abs=2e-4)
    assert curves["lpips"] == [0, frame_lpips(first, second, network)]
    assert scored(moving, moving, network)["tlp"][1] == 0


def test_invalid_frames_raise(network):
    with pytest.raises(ShapeError, match=r"LPIPS: .*31x31"):
        network(torch.zeros(1, 3, 30, 40), torch.zeros(1, 3, 30, 40))
    with pytest.raises(ShapeError, match="LPIPS: got"):
        network(torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 40, 41))


def test_missing_weights_name_the_command_that_fetches_them(trunk, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    with pytest.raises(WeightsError, match=r"AlexNet.*load_state_dict_from_url"):
        load_lpips()
    monkeypatch.setattr(perceptual, "LINEAR", {"no_such_package": "alex.pth"})
    with pytest.raises(WeightsError, match=r"pip install 'vsr-distillation-workbench\[perceptual\]'"):
        load_lpips(trunk)


def test_a_file_with_another_checksum_raises(trunk, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / TRUNK).write_bytes(trunk.read_bytes())
    with pytest.raises(WeightsError, match="sha256"):
        load_lpips()


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_files_that_are_no_weights_raise(trunk, tmp_path):
    torch.save(Bomb(), tmp_path / "bomb.pth")
    with pytest.raises(WeightsError, match=r"bomb.pth"):
        load_lpips(tmp_path / "bomb.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    with pytest.raises(WeightsError, match=r"noise.pth: .*got a text file"):
        load_lpips(tmp_path / "noise.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="list"):
        load_lpips(tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"lin0.model.1.weight of 64 numbers"):
        load_lpips(trunk, trunk)


def test_without_weights_it_is_the_mean_over_the_layers():
    """All linear weights 1 and a trunk at random: still zero for equal images, and a batch is pair by pair."""
    torch.manual_seed(0)
    network = LPIPS()
    first, second = torch.rand(2, 2, 3, 40, 40)
    both = network(first, second)
    assert both == pytest.approx([network(first[k : k + 1], second[k : k + 1]).item() for k in (0, 1)], rel=1e-4)
    assert not any(parameter.requires_grad for parameter in network.parameters())
