"""Choice of the runtime of a network on the CPU, and OpenVINO against PyTorch."""

import numpy as np
import pytest
import torch

from tests.models.tiny import TINY
from workbench.errors import WeightsError
from workbench.inference import runtime
from workbench.inference.runtime import RuntimeChoice, choose_runtime, open_runtime
from workbench.models.zoo import build
from workbench.tensors import to_float

pytest.importorskip("onnx", reason="onnx: pip install 'vsr-distillation-workbench[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime: pip install 'vsr-distillation-workbench[export]'")


@pytest.fixture
def network():
    return build("bicubic").eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["vespcn_paper", "vsrnet_y", "fastdvdnet_vsr"])
def test_openvino_equals_pytorch(tmp_path, name):
    pytest.importorskip("openvino", reason="openvino: pip install 'vsr-distillation-workbench[openvino]'")
    torch.manual_seed(0)
    network = build(name, **TINY[name]).eval()
    clip = to_float(np.random.default_rng(0).integers(0, 256, (6, 19, 26, 3), np.uint8))
    with torch.inference_mode():
        opened = open_runtime(network, "openvino", tmp_path)
        assert torch.allclose(opened(clip).frames, network(clip).frames, atol=2e-5)
    assert opened.recipe["runtime"] == "OpenVINO"


def test_files_that_openvino_cannot_read_raise(tmp_path):
    pytest.importorskip("openvino", reason="openvino: pip install 'vsr-distillation-workbench[openvino]'")
    (tmp_path / "network.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"network\.onnx"):
        open_runtime(build("bicubic"), "openvino", tmp_path)


def test_the_fastest_runtime_is_chosen_and_kept(network, tmp_path, monkeypatch):
    seconds = {"torch": 0.3, "onnx": 0.1}
    timed = []
    monkeypatch.setattr(runtime, "_time", lambda candidates: timed.append(list(candidates)) or seconds)
    choice = choose_runtime(network, tmp_path)
    assert (choice.runtime, choice.seconds) == ("onnx", seconds)
    assert choose_runtime(network, tmp_path) == choice
    assert len(timed) == 1
    assert timed[0][:2] == ["torch", "onnx"]


def test_times_of_a_busy_machine_are_not_kept(network, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr(runtime, "_time", lambda candidates: timed.append(1) or {"torch": 0.3, "onnx": 0.1})
    monkeypatch.setattr(runtime.measurements, "load_problem", lambda *times: "other processes used 1 of 2 cores")
    assert choose_runtime(network, tmp_path).reason.endswith("not kept, since other processes used 1 of 2 cores")
    choose_runtime(network, tmp_path)
    assert len(timed) == 2


def test_pytorch_stays_unless_another_is_clearly_faster():
    assert runtime._fastest({"torch": 0.1, "onnx": 0.099}).runtime == "torch"
    assert runtime._fastest({"torch": 0.1, "openvino": 0.09}).runtime == "openvino"


def test_without_another_runtime_pytorch_is_used(network, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    choice = choose_runtime(network, tmp_path)
    assert (choice.runtime, choice.seconds) == ("torch", {})
    assert "installed" in choice.reason


def test_a_network_that_cannot_be_exported_runs_under_pytorch(network, tmp_path, monkeypatch):
    def refuse(network, path):
        raise runtime.ConfigError("bicubic cannot be exported")

    monkeypatch.setattr(runtime, "export", refuse)
    choice = choose_runtime(network, tmp_path)
    assert choice.runtime == "torch"
    assert "cannot be exported" in choice.reason


def test_a_runtime_that_fails_leaves_the_others(network, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "find_spec", lambda name: True)

    def refuse_openvino(network, name, folder):
        if name == "openvino":
            raise WeightsError("operation X is not known")
        return network

    monkeypatch.setattr(runtime, "open_runtime", refuse_openvino)
    monkeypatch.setattr(runtime, "_time", lambda candidates: dict(zip(candidates, (0.3, 0.1), strict=True)))
    choice = choose_runtime(network, tmp_path)
    assert choice.runtime == "onnx"
    assert "OpenVINO: operation X is not known" in choice.reason


def test_a_slow_network_is_timed_once(network, monkeypatch):
    passes = []
    monkeypatch.setattr(runtime, "BUDGET_SECONDS", 0.0)
    network.register_forward_hook(lambda *_: passes.append(1))
    assert runtime._time({"torch": network})["torch"] > 0
    assert len(passes) == 1


def test_every_installed_runtime_is_timed(network, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROUNDS", 1)
    choice = choose_runtime(network, tmp_path)
    assert isinstance(choice, RuntimeChoice)
    assert {"torch", "onnx"} <= choice.seconds.keys()
    assert all(seconds > 0 for seconds in choice.seconds.values())
