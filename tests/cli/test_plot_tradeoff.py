import json

import pytest
from PIL import Image

from workbench.cli import main
from workbench.data.datasets.samples import sample


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench``."""
    status = main([*map(str, args)])
    seen = capsys.readouterr()
    return status, seen.out, seen.err


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Dataset of one small clip; the command runs in its parent folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set" / "walk"
    folder.mkdir(parents=True)
    for number, frame in enumerate(sample("carphone", frames=2).frames):
        Image.fromarray(frame[:48, :64]).save(folder / f"{number}.png")
    return tmp_path


def test_plot_tradeoff_writes_a_figure_and_its_numbers(data, capsys):
    args = ["--data", "set", "--protocol", "folders", "--frames", 1, "--rounds", 1, "--threads", 1]
    status, out, _ = run(
        capsys, "plot-tradeoff", *args, "--networks", "bicubic,plain,distilled", "--out", "out/tradeoff.png"
    )
    assert status == 0
    with Image.open(data / "out" / "tradeoff.png") as image:
        assert image.size[0] > 500
    held = json.loads((data / "out" / "tradeoff.json").read_text())
    methods = {row["method"]: row for row in held["methods"]}
    assert list(methods) == ["bicubic", "plain", "distilled"]
    assert held["pairs"] == [["plain", "distilled"]]
    assert held["protocol"]["name"] == "folders"
    assert methods["plain"]["speed"] == methods["distilled"]["speed"]  # one network, timed once
    assert (methods["plain"]["speed"]["height"], methods["plain"]["speed"]["width"]) == (120, 180)
    assert f"{methods['distilled']['psnr_y_db']:.2f}" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "tradeoff.jpg"], "out: got tradeoff.jpg"),
        (["--pairs", "plain"], "pairs: got 'plain'"),
        (["--networks", ","], "name at least one"),
        (["--networks", "edvr_m"], "without weights would be random"),
    ],
)
def test_invalid_options_are_errors_before_measuring(data, capsys, args, message):
    status, out, err = run(capsys, "plot-tradeoff", "--data", "set", "--protocol", "folders", *args)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


def test_all_methods_are_in_one_table(data, capsys):
    args = ["--protocol", "folders", "--data", "set", "--network", "bicubic,plain", "--table"]
    status, out, _ = run(capsys, "evaluate", *args, "--format", "md")
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert lines[0] == "|  | bicubic | plain |"
    rows = {line.split("|")[1].strip(): line for line in lines[2:]}
    assert list(rows) == ["walk", "mean", "PSNR-RGB [dB]", "parameters", "MACs a frame", "ms a frame"]
    assert "191,923" in rows["parameters"]
