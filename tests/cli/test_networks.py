import json

import pytest
from PIL import Image

from workbench.cli import main
from workbench.data.datasets.samples import sample
from workbench.models.zoo import NETWORKS


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench``."""
    status = main([*map(str, args)])
    seen = capsys.readouterr()
    return status, seen.out, seen.err


def test_every_network_is_listed_with_its_exact_count(capsys):
    status, out, _ = run(capsys, "networks", "--no-macs", "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert rows.keys() == NETWORKS.keys()
    assert (rows["edvr_l"]["parameters"], rows["edvr_l"]["frames"], rows["edvr_l"]["year"]) == (20_699_363, 7, 2019)
    assert rows["basicvsr"]["frames"] is None
    assert all(row["paper"] and row["role"] for row in rows.values())


@pytest.mark.parametrize("form", ["text", "md", "json"])
def test_some_networks_with_what_they_cost(capsys, form):
    args = ["--only", "vespcn_paper,bicubic", "--time", "--frames", 1, "--rounds", 1, "--threads", 1]
    status, out, err = run(capsys, "networks", *args, "--format", form)
    assert status == 0
    assert "clip of 1 frames" in err
    if form == "json":
        rows = {row["name"]: row for row in json.loads(out)}
        assert rows["vespcn_paper"]["macs"] == 1_474_070_400  # by hand in tests/models/test_cost.py
        assert rows["vespcn_paper"]["seconds_per_frame"] > 0
        assert rows["bicubic"]["macs_alone"] is None
    else:
        assert "108,232" in out
        assert "1.47 G" in out
        assert "edvr" not in out


def test_layers_with_shapes(capsys):
    status, out, _ = run(capsys, "networks", "--show", "vespcn_paper")
    assert status == 0
    assert "1x48x120x180" in out
    assert "PixelShuffle" in out
    _, out, _ = run(capsys, "networks", "--show", "vespcn_paper", "--depth", 1, "--format", "json")
    assert [(row["name"], row["parameters"]) for row in json.loads(out)] == [
        ("", 108_232), ("motion", 59_392), ("layers", 48_840),
    ]  # fmt: skip


@pytest.mark.parametrize("args", [("--only", "vespnc"), ("--show", "vespnc")])
def test_a_misspelt_name_is_told_the_nearest(capsys, args):
    status, out, err = run(capsys, "networks", *args)
    assert (status, out) == (2, "")
    assert "did you mean 'vespcn'" in err


# -- workbench walk, workbench evaluate --table ---------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A set of one small clip; the command is given beside it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set" / "walk"
    folder.mkdir(parents=True)
    for number, frame in enumerate(sample("carphone", frames=2).frames):
        Image.fromarray(frame[:48, :64]).save(folder / f"{number}.png")
    return tmp_path


def test_the_figure_and_its_numbers_beside_it(data, capsys):
    args = ["--data", "set", "--protocol", "folders", "--frames", 1, "--rounds", 1, "--threads", 1]
    status, out, _ = run(capsys, "walk", *args, "--networks", "bicubic,plain,distilled", "--out", "out/walk.png")
    assert status == 0
    with Image.open(data / "out" / "walk.png") as image:
        assert image.size[0] > 500
    held = json.loads((data / "out" / "walk.json").read_text())
    methods = {row["method"]: row for row in held["methods"]}
    assert list(methods) == ["bicubic", "plain", "distilled"]
    assert held["pairs"] == [["plain", "distilled"]]
    assert held["protocol"]["name"] == "folders"
    assert methods["plain"]["speed"] == methods["distilled"]["speed"]  # one network, timed once
    assert (methods["plain"]["speed"]["height"], methods["plain"]["speed"]["width"]) == (120, 180)
    assert f"{methods['distilled']['psnr_y_db']:.2f}" in out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--out", "walk.jpg"], "want a name that ends in .png"),
        (["--pairs", "plain"], "want WITHOUT:WITH, got 'plain'"),
        (["--networks", ","], "name at least one"),
        (["--networks", "edvr_m"], "without weights would be random"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_anything_is_measured(data, capsys, args, says):
    status, out, err = run(capsys, "walk", "--data", "set", "--protocol", "folders", *args)
    assert (status, out) == (2, "")
    assert says in " ".join(err.split())


def test_one_table_for_all_methods(data, capsys):
    args = ["--protocol", "folders", "--data", "set", "--network", "bicubic,plain", "--table"]
    status, out, _ = run(capsys, "evaluate", *args, "--format", "md")
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert lines[0] == "|  | bicubic | plain |"
    rows = {line.split("|")[1].strip(): line for line in lines[2:]}
    assert list(rows) == ["walk", "mean", "PSNR-RGB [dB]", "parameters", "MACs a frame", "ms a frame"]
    assert "191,923" in rows["parameters"]
