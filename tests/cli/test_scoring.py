import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from workbench.cli import main
from workbench.data.datasets.samples import sample
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.scores import read_scores
from workbench.models.zoo import build


def save(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a dataset of two clips next to the current folder."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "set" / "city", sample("carphone", frames=3).frames)
    save(tmp_path / "set" / "walk", sample("carphone", frames=(40, 42)).frames)
    return tmp_path / "set"


def run(capsys, *args):
    """Exit status, stdout, stderr of ``workbench evaluate``."""
    status = main(["evaluate", *map(str, args)])
    seen = capsys.readouterr()
    return status, seen.out, seen.err


def test_evaluate_prints_a_table_and_writes_scores(data, capsys):
    status, out, err = run(capsys, "--protocol", "folders", "--data", "set")
    assert status == 0
    wanted = evaluate(build("bicubic"), data, "folders")
    assert f"{wanted.mean['psnr_y_db']:.2f}" in out
    assert "bicubic on set (folders, BI x4)" in out
    assert "5/5" in err
    held = read_scores(data.parent / "scores" / "scores.json")
    assert held == [json.loads(json.dumps(wanted.to_dict() | {"provenance": held[0]["provenance"]}))]


def test_evaluate_measures_the_temporal_share(data, capsys):
    """Bicubic has none: its gain over itself is 0 with any neighbors."""
    status, out, _ = run(
        capsys, "--protocol", "folders", "--data", "set", "--neighbors", "true,copies,other", "--neighbor-frames", 1
    )  # fmt: skip
    assert status == 0
    assert "Temporal share of bicubic on set" in out
    (held,) = read_scores(data.parent / "scores" / "scores.json")
    assert held["temporal_share"]["gain_db"] == {"true": 0, "copies": 0, "other": 0}
    assert held["temporal_share"]["other_clips"] == {"city": "walk", "walk": "city"}
    assert [len(clip["number"]) for clip in held["temporal_share"]["per_frame"].values()] == [1, 1]


@pytest.mark.parametrize("form", ["csv", "json", "md", "latex"])
def test_stdout_contains_the_table_only(data, capsys, form):
    status, out, _ = run(capsys, "--protocol", "folders", "--data", "set", "--format", form, "--clips", "walk")
    assert status == 0
    if form == "csv":
        assert [row["clip"] for row in csv.DictReader(io.StringIO(out))] == ["walk", "mean"]
    elif form == "json":
        assert list(json.loads(out)["scores"][0]["per_clip"]) == ["walk"]
    else:
        assert out.startswith({"md": "**bicubic on set, 1 of its clips", "latex": r"\begin{table}"}[form])


def test_several_methods_are_scored_with_changed_settings(data, capsys):
    status, out, _ = run(
        capsys, "--network", "bicubic,plain", "--protocol", "folders", "--data", "set", "--degradation", "bd_duf",
        "--crop-border", 8, "--format", "csv", "--out", "mine.json",
    )  # fmt: skip
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["method"] for row in rows} == {"bicubic", "plain"}
    assert {row["protocol"] for row in rows} == {"folders+degradation=bd_duf+crop_border=8"}
    held = read_scores(data.parent / "mine.json")
    assert "sha256" in held[1]["provenance"]["method"]


def test_weights_of_another_code_base_are_scored(data, capsys, root):
    """The weights of a small EDVR as BasicSR saves them: recognized by the names of its tensors."""
    golden = load_file(root / "tests" / "golden" / "edvr_tiny_5f_tsa.safetensors")
    state = {name.removeprefix("w."): value.float() for name, value in golden.items() if name.startswith("w.")}
    torch.save({"params": state}, "net_g_latest.pth")
    status, out, _ = run(
        capsys, "--network", "net_g_latest.pth", "--protocol", "folders", "--data", "set", "--format", "json"
    )
    assert status == 0
    scored = json.loads(out)["scores"][0]
    assert scored["network"] == "net_g_latest"
    assert scored["provenance"]["method"].endswith(", EDVR by BasicSR")
    torch.save({"params": {"some.weight": torch.zeros(1)}}, "other.pth")
    status, out, err = run(capsys, "--network", "other.pth", "--protocol", "folders", "--data", "set")
    assert (status, out) == (2, "")
    assert "other.pth: unknown layout" in " ".join(err.split())


def test_frames_of_another_program_are_scored(data, capsys):
    for clip in ("city", "walk"):
        frames = [np.asarray(Image.open(path)) for path in sorted((data / clip).iterdir())]
        save(data.parent / "theirs" / clip, frames)
    status, out, _ = run(capsys, "--predictions", "theirs", "--protocol", "folders", "--data", "set")
    assert status == 0
    assert "theirs on set" in out
    assert "5 frames equal to the ground truth" in " ".join(out.split())
    (data.parent / "theirs" / "walk" / "1.png").unlink()
    status, out, err = run(capsys, "--predictions", "theirs", "--protocol", "folders", "--data", "set")
    assert (status, out) == (2, "")
    assert "walk: 1 is missing" in " ".join(err.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--protocol", "vid5"], "did you mean 'vid4'"),
        (["--protocol", "folders", "--data", "set", "--clips", "wlak"], "did you mean 'walk'"),
        (["--protocol", "folders", "--data", "set", "--degradation", "bd"], "no degradation 'bd'"),
        (["--protocol", "folders", "--data", "nowhere"], "nowhere: no such folder"),
        (["--protocol", "folders", "--data", "set", "--lr-dir", "BIx4"], "folder BIx4"),
        (["--protocol", "vid4"], "Name the folder of its data"),
        (["--network", "plain", "--protocol", "folders", "--data", "set", "--scale", "2"], "scores x2"),
        (["--protocol", "folders", "--data", "set", "--neighbors", "copy"], "copies, far, other, reversed, true"),
        (
            ["--protocol", "folders", "--data", "set", "--neighbors", "true", "--neighbor-frames", "0"],
            "neighbor_frames",
        ),
        (["--predictions", "set", "--protocol", "folders", "--data", "set", "--neighbors", "true"], "--predictions"),
        (["--protocol", "held_out", "--neighbors", "other"], "neighbors other"),
    ],
)
def test_invalid_options_are_errors_on_stderr(data, capsys, args, message):
    status, out, err = run(capsys, *args)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


def test_missing_weights_of_lpips_are_an_error_before_scoring(data, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(data.parent / "hub"))
    status, out, err = run(capsys, "--protocol", "folders", "--data", "set", "--perceptual")
    assert (status, out) == (2, "")
    assert "AlexNet's weights are not at" in " ".join(err.split())


def test_a_file_that_is_no_scores_is_an_error_before_scoring(data, capsys):
    (data.parent / "notes.json").write_text("[]")
    status, out, err = run(capsys, "--protocol", "folders", "--data", "set", "--out", "notes.json")
    assert (status, out) == (2, "")
    assert "notes.json: not scores of format" in " ".join(err.split())
    assert (data.parent / "notes.json").read_text() == "[]"


def test_the_table_is_printed_on_a_full_disk(data, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "scores.json")

    monkeypatch.setattr("workbench.evaluation.scores.write_atomic", full)
    status, out, err = run(capsys, "--protocol", "folders", "--data", "set")
    assert status == 2
    assert "bicubic on set" in out
    assert "No space left on device: scores.json" in " ".join(err.split())
