import numpy as np
import pytest

from tests.footage import save
from tests.videos import encode, numbered
from workbench.cli import main
from workbench.data.video.read import read_frames
from workbench.data.video.timeline import timeline
from workbench.inference.chunks import upscale
from workbench.inference.runtime import RuntimeChoice
from workbench.models.bicubic import Bicubic
from workbench.models.weights import load
from workbench.pretrained import DISTILLED


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench upscale``."""
    status = main(["upscale", *map(str, args), "--threads", "1"])
    seen = capsys.readouterr()
    return status, seen.out, " ".join(seen.err.split())


@pytest.fixture
def video(tmp_path, monkeypatch):
    """Return a folder of ten numbered frames in the current folder."""
    monkeypatch.chdir(tmp_path)
    return encode(tmp_path / "in.mp4", numbered(10, noise=True))


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Five images of 20x14."""
    monkeypatch.chdir(tmp_path)
    return save(tmp_path / "in", np.random.default_rng(0).integers(0, 256, (5, 14, 20, 3), np.uint8))


def test_a_video_is_upscaled(video, capsys):
    status, out, err = run(capsys, "in.mp4", "out.mp4", "--network", "bicubic", "--scale", 2)
    assert status == 0
    assert out.startswith("out.mp4: 10 frames of 128x96 by bicubic")
    assert "lossy" in out
    assert "10/10" in err
    assert "frames/s" in err
    assert "peak memory" in err
    assert len(timeline(video.with_name("out.mp4"))) == 10


def test_the_shipped_student_is_the_default(images, capsys):
    status, out, _ = run(capsys, "in", "out")
    assert status == 0
    assert "by distilled" in out
    assert "exact" in out
    whole = upscale(load(f"pretrained:{DISTILLED}"), read_frames(images))
    assert np.abs(read_frames("out").astype(int) - whole).max() <= 1


def test_tiles_are_reported(images, capsys):
    args = ("in", "out", "--network", "bicubic", "--tile", 8)
    assert "tiles of 8 with 10 around (low-resolution pixels): equal to whole frames" in run(capsys, *args)[2]
    whole = upscale(Bicubic(scale=4), read_frames(images))
    assert np.abs(read_frames("out").astype(int) - whole).max() <= 1
    assert "blended" in run(capsys, "in", "again", "--network", "bicubic", "--tile", 8, "--overlap", 0)[2]


def test_a_damaged_end_sets_the_exit_status_and_prints_a_warning(video, capsys):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 2 // 3])
    status, out, err = run(capsys, "in.mp4", "out.mp4", "--network", "bicubic")
    frames = len(timeline(video.with_name("out.mp4")))
    assert status == 1
    assert 0 < frames < 10
    assert f"out.mp4: {frames} frames" in out
    assert f"{frames} frames, of" in err
    assert "damaged: in.mp4" in err


def test_the_memory_plan_is_printed(video, capsys):
    status, _, err = run(capsys, "in.mp4", "out.mp4", "--network", "plain", "--memory", "64G")
    assert status == 0
    assert "were expected" in err
    status, out, err = run(capsys, "in.mp4", "other.mp4", "--network", "plain", "--memory", "10M")
    assert (status, out) == (2, "")
    assert "memory: 64x48 to 256x192 needs" in err
    assert not video.with_name("other.mp4").exists()


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (["in.mp4", "out.mp4", "--network", "distiled"], "did you mean 'distilled'"),
        (["in.mp4", "out.mp4", "--network", "edvr_m"], "without weights would be random"),
        (["in.mp4", "out.avi", "--network", "bicubic"], "give a name that ends in .mp4"),
        (["none.mp4", "out.mp4", "--network", "bicubic"], "none.mp4: no such file"),
        (["in.mp4", "in.mp4", "--network", "bicubic"], "that is the source"),
        (["in.mp4", "out.mp4", "--memory", "much"], "want an amount such as 4G"),
        (["in.mp4", "out.mp4", "--memory", "4G", "--tile", "64"], "give one or the other"),
        (["in.mp4", "out.mp4", "--chunk-frames", "-1"], "chunk_frames: want 0 or more, got -1"),
        (["in.mp4", "out.mp4", "--network", "bicubic", "--tile", "3"], "tile: want 8"),
    ],
)
def test_invalid_arguments_are_errors_and_nothing_is_written(video, capsys, args, pattern):
    status, out, err = run(capsys, *args)
    assert (status, out) == (2, "")
    assert pattern in err
    assert "0/?" not in err  # no empty progress bar
    assert [path.name for path in video.parent.iterdir()] == ["in.mp4"]


def test_the_measured_runtime_is_used(images, capsys, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime: pip install 'vsr-distillation-workbench[export]'")
    choice = RuntimeChoice("onnx", {"torch": 2.0, "onnx": 1.0}, "ONNX Runtime, by measurement")
    monkeypatch.setattr("workbench.inference.runtime.choose_runtime", lambda network, folder: choice)
    status, _, err = run(capsys, "in", "out", "--network", "bicubic", "--runtime", "auto", "--device", "cpu")
    assert status == 0
    assert "runtime: ONNX Runtime" in err
    assert np.abs(read_frames("out").astype(int) - upscale(Bicubic(scale=4), read_frames(images))).max() <= 1
