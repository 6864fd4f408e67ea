import json

import pytest

from workbench.cli import main
from workbench.evaluation.speed import Speed

SMALL = ("--sizes", "16x12,20x8", "--frames", "1", "--rounds", "1", "--threads", "1")


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench bench``."""
    status = main(["bench", *map(str, args)])
    seen = capsys.readouterr()
    return status, seen.out, " ".join(seen.err.split())


@pytest.mark.parametrize("form", ["text", "md", "json"])
def test_time_and_memory_by_precision_and_size(capsys, tmp_path, form):
    out_file = tmp_path / "bench.json"
    args = ("--networks", "bicubic,plain", "--torch-precisions", "fp32,bf16", "--onnx-precisions", "")
    args += ("--format", form, "--out", out_file)
    status, out, err = run(capsys, *args, *SMALL)
    assert status == 0
    held = json.loads(out_file.read_text())
    seen = {
        (row["network"], row["runtime"], *(row["speed"][k] for k in ("precision", "width"))) for row in held["rows"]
    }
    assert seen == {(n, "torch", p, w) for n in ("bicubic", "plain") for p in ("fp32", "bf16") for w in (16, 20)}
    assert all(Speed(**row["speed"]).seconds_per_frame > 0 for row in held["rows"])
    assert "clip of 1 frames" in err
    if form == "json":
        assert json.loads(out) == held
    else:
        assert "16x12 x4" in out
        assert "plain" in out


@pytest.mark.parametrize(("ratio", "wanted"), [(0.5, {"fp32", "bf16"}), (1.1, {"fp32", "bf16"}), (12.0, {"fp32"})])
def test_bf16_is_omitted_if_it_is_slow(capsys, monkeypatch, ratio, wanted):
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: ratio)
    args = ("--networks", "bicubic", "--onnx-precisions", "", "--format", "json", "--device", "cpu")
    status, out, err = run(capsys, *args, *SMALL)
    assert status == 0
    assert {row["speed"]["precision"] for row in json.loads(out)["rows"]} == wanted
    assert ("bf16 left out" in err) == (ratio == 12)


def test_networks_that_cannot_be_exported_are_omitted(capsys):
    pytest.importorskip("onnx", reason="onnx: pip install 'vsr-distillation-workbench[export]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime: pip install 'vsr-distillation-workbench[export]'")
    args = (
        "--networks",
        "bicubic,pretrained:edvr_s",
        "--torch-precisions",
        "",
        "--onnx-precisions",
        "int8",
        "--format",
        "json",
    )
    status, out, err = run(capsys, *args, *SMALL)
    assert status == 0
    assert {row["network"] for row in json.loads(out)["rows"]} == {"bicubic"}
    assert "edvr_s, onnx int8: left out: edvr_s: int8 is for networks without deformable" in err


def test_plot_tradeoff_reads_the_times_of_bench(capsys, tmp_path, monkeypatch):
    from PIL import Image

    from workbench.data.datasets.samples import sample

    (tmp_path / "set" / "walk").mkdir(parents=True)
    Image.fromarray(sample("carphone", frames=1).frames[0, :48, :64]).save(tmp_path / "set" / "walk" / "0.png")
    monkeypatch.chdir(tmp_path)
    size = ("--sizes", "16x12,180x120", "--frames", "1", "--rounds", "1", "--threads", "1")
    run(capsys, "--networks", "bicubic", "--onnx-precisions", "", "--out", "bench.json", *size)
    plot = ("plot-tradeoff", "--data", "set", "--protocol", "folders", "--networks", "bicubic", "--times", "bench.json")
    assert main([*plot, "--threads", "1"]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    wanted = [row["speed"] for row in rows if row["speed"]["precision"] == "fp32" and row["speed"]["width"] == 180]
    assert [row["speed"] for row in json.loads((tmp_path / "tradeoff.json").read_text())["methods"]] == wanted
    (tmp_path / "bench.json").write_text("{}")
    capsys.readouterr()
    assert main([*plot, "--threads", "1"]) == 2
    assert "bench.json: not a file that `workbench bench --out` wrote" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--networks", ","], "name at least one"),
        (["--sizes", "180"], "size: got '180'"),
        (["--torch-precisions", "int8"], "torch-precisions: want some of fp32, bf16, fp16, got int8"),
        (["--networks", "plian"], "did you mean 'plain'"),
    ],
)
def test_invalid_options_are_errors(capsys, args, message):
    status, out, err = run(capsys, *args)
    assert (status, out) == (2, "")
    assert message in err
