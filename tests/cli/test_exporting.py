import numpy as np
import pytest

from tests.footage import save
from workbench.cli import main
from workbench.data.datasets.samples import sample
from workbench.data.sampling.crops import make_pair
from workbench.data.video.read import read_frames

pytest.importorskip("onnx", reason="onnx: pip install 'vsr-distillation-workbench[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime: pip install 'vsr-distillation-workbench[export]'")


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench``."""
    status = main([*map(str, args), "--threads", "1"])
    seen = capsys.readouterr()
    return status, seen.out, " ".join(seen.err.split())


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Export into an empty folder, with a check on a small clip."""
    monkeypatch.chdir(tmp_path)
    frames = sample("carphone", frames=3).frames
    monkeypatch.setattr("workbench.onnx.export.check_pair", lambda scale: make_pair(frames, scale=scale))
    monkeypatch.setattr(
        "workbench.onnx.export.calibration_clips", lambda scale, size: [make_pair(frames, scale=scale).low]
    )
    return tmp_path


def test_export_of_three_precisions_and_upscaling_with_each(small, capsys):
    status, out, _ = run(capsys, "export", "distilled", "--out", "s.onnx", "--precision", "fp32,int8")
    assert status == 0
    assert {path.name for path in small.iterdir()} == {"s.onnx", "s.int8.onnx"}
    assert "clip and windows in, frames out; any batch, time, height, width" in out
    assert out.count("dB") == 6
    assert "--verbose" in out
    assert "PixelShuffle" not in out
    assert "Conv " not in out
    low = save(small / "low", make_pair(sample("carphone", frames=4).frames, scale=4).low)
    assert run(capsys, "upscale", low, "torch", "--network", "distilled")[0] == 0
    assert run(capsys, "upscale", low, "file", "--network", "s.onnx")[0] == 0
    assert run(capsys, "upscale", low, "runtime", "--network", "distilled", "--runtime", "onnx")[0] == 0
    images = [read_frames(small / name).astype(int) for name in ("torch", "file", "runtime")]
    assert np.abs(images[1] - images[0]).max() <= 1
    assert np.array_equal(images[1], images[2])


def test_export_compare_shows_equal_operators(capsys):
    status, out, _ = run(capsys, "export", "--compare", "plain", "distilled", "--rounds", "1")
    assert status == 0
    assert "graph and size: the same, operator by operator" in out
    status, out, _ = run(capsys, "export", "--compare", "plain", "bicubic", "--rounds", "1")
    assert status == 1
    assert "graph and size: not the same" in out


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        ([], "name one network, or two with --compare"),
        (["plain", "--compare", "plain", "distilled"], "name one network, or two with --compare"),
        (["vespcn_paper"], "without weights would be random"),
        (["plain", "--precision", "fp8"], "precision: want some of fp32, fp16, int8, got fp8"),
        (["pretrained:edvr_s", "--precision", "int8"], "int8 is for networks without deformable convolutions"),
    ],
)
def test_invalid_arguments_are_errors(small, capsys, args, pattern):
    status, out, err = run(capsys, "export", *args)
    assert (status, out) == (2, "")
    assert pattern in err
    assert list(small.iterdir()) == []
