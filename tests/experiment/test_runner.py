"""A tiny experiment from its footage to its tables."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from tests.footage import save
from workbench.cli import main
from workbench.config import Network
from workbench.data.datasets.registry import open_set
from workbench.data.datasets.samples import sample
from workbench.errors import ConfigError, DataError
from workbench.evaluation.scores import TemporalShare
from workbench.experiment import runner
from workbench.experiment.results import Results
from workbench.experiment.variants import find_variant, shared_config, variant_config
from workbench.runs import Run
from workbench.training.tuning import Tuning, settle_tuning

TINY = (
    "data.crop_size=8", "data.num_frames=3", "data.batch_size=1", "data.augmentations_per_crop=1",
    "data.validation_clip=bigbuckbunny[100:101, 64:96, 96:128]",
    "distillation.ratio_every=1", "gradient_stats_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Two clips of 64x48, one of them held out, and another clip as a validation set."""
    folder = tmp_path_factory.mktemp("tiny")
    frames = sample("carphone", frames=8).frames
    save(folder / "footage" / "train", frames[:, :96, :128])
    save(folder / "footage" / "held", frames[:, 40:136, 40:168])
    save(folder / "set" / "corner", frames[:2, :32, :40])
    save(folder / "set" / "middle", frames[:2, 40:72, 40:80])
    return folder


def run_tiny(folder, capsys, *args, variants, out="experiment", data="footage"):
    """Return the exit status, the output and the errors of ``workbench experiment`` on the tiny footage."""
    given = [
        "--data",
        folder / data,
        "--out",
        folder / out,
        "--variants",
        variants,
        "--teacher",
        "pretrained:basicvsr_s",
    ]
    given += ["--steps", 2, "--crops", 2, "--temporal", "none", "--threads", 1, "--validation", "held", *args]
    status = main(["experiment", *map(str, given), "--set", *TINY])
    seen = capsys.readouterr()
    return status, seen.out, " ".join(seen.err.split())


@pytest.mark.slow
def test_an_experiment_is_trained_scored_and_reproduced(tiny, capsys):
    """Gradient-norm ratios use the teacher cache; a second call trains nothing, a third one reproduces."""
    variants = "plain,output_r2+sd_r0.1+td_r0.1"
    status, out, log = run_tiny(tiny, capsys, "--seeds", 1, variants=variants)
    assert status == 0
    assert log.count("run 1 of 2, training plain-0") == log.count("run 2 of 2, scoring") == 1  # a line for each part
    assert "| plain: no teacher |" in out
    assert "too few seeds" in out
    results = Results.read(tiny / "experiment" / "results.json")
    assert list(results.scores) == variants.split(",")
    assert results.references.keys() == {"bicubic", "teacher", "motion"}
    assert results.settings["data.crop_size"] == 8
    assert all(np.isfinite(results.values(name, "validation", "psnr_y_db")[0]) for name in results.scores)
    assert [folder.name for folder in (tiny / "experiment" / "cache").iterdir() if folder.is_dir()] == [
        "hr-sr-sum_squares-unit-8-2-0-True-last-1"
    ]
    run = Run(runner.run_folder(tiny / "experiment", "output_r2+sd_r0.1+td_r0.1", 0))
    assert run.status().state == "finished"
    row = run.metrics()[-1]
    ratios = {
        name: row["weights"][name] * row[f"gradient.{name}"] / row["gradient.reconstruction"]
        for name in ("spatial", "temporal", "output_l1")
    }
    assert set(row["weights"]) == {"reconstruction", "spatial", "temporal", "output_l1"}
    assert all(np.isfinite(ratio) and ratio > 0 for ratio in ratios.values())

    written = {path: path.stat().st_mtime_ns for path in (tiny / "experiment").rglob("*.json*")}
    status, again, _ = run_tiny(tiny, capsys, "--seeds", 1, variants=variants)
    assert (status, again) == (0, out)
    assert {path: path.stat().st_mtime_ns for path in (tiny / "experiment").rglob("*.json*")} == written

    stored = tiny / "experiment" / "results.json"
    args = ("--seeds", 1, "--compare-with", stored)
    status, lines, _ = run_tiny(tiny, capsys, *args, variants="plain", out="again", data="experiment/data")
    assert status == 0
    assert lines.startswith("plain, seed 0, validation: PSNR-Y ")
    assert "inside" in lines
    assert Results.read(tiny / "again" / "results.json").references == {}
    record = json.loads(stored.read_text())
    record["variants"]["plain"]["0"]["validation"]["mean"]["psnr_y_db"] += 1
    stored.with_name("other.json").write_text(json.dumps(record))
    args = ("--seeds", 1, "--compare-with", stored.with_name("other.json"))
    status, lines, _ = run_tiny(tiny, capsys, *args, variants="plain", out="again", data="experiment/data")
    assert status == 1
    assert "OUTSIDE" in lines

    status, _, err = run_tiny(tiny, capsys, "--seeds", 1, "--student", "vespcn", variants="plain")
    assert status == 2
    assert "student.name: got 'vespcn', expected 'vespcn_s'" in err


def share_of(network, clips, protocol, neighbors):
    """Return a temporal share of .25 dB; the clips are too short to measure one."""
    names = [clip.name for clip in clips]
    psnr = {"true": 20.75, "copies": 20.5}
    return TemporalShare(
        averaging=protocol.averaging, window=neighbors.window, displacement=1, numbers={name: [0] for name in names},
        other_clips={}, bicubic={name: [20.0] for name in names},
        psnr_y={kind: {name: [psnr[kind]] for name in names} for kind in neighbors.names},
    )  # fmt: skip


def test_a_folder_of_clips_is_a_validation_set(tiny, capsys, monkeypatch):
    args = ("--seeds", 1, "--validation-set", tiny / "set")
    status, out, _ = run_tiny(tiny, capsys, *args, variants="plain", out="other_set")
    assert status == 0
    assert "|  | corner | middle | mean |" in out
    path = tiny / "other_set" / "results.json"
    results = Results.read(path)
    assert len(results.settings["validation_set"]) == 2
    quartiles = results.scores["plain"][0]["validation"]["motion quartiles"]
    assert list(quartiles) == list(results.references["motion"]["validation"]["motion quartiles"]) == list("1234")
    parts = [results.values("plain", "validation", "psnr_y_db", clip)[0] for clip in ("corner", "middle")]
    assert np.mean(list(quartiles.values())) == pytest.approx(np.mean(parts))  # four frames, one in each
    assert "Columns: quartiles" in out

    status, _, _ = run_tiny(tiny, capsys, *args, "--temporal", "all", variants="plain", out="other_set")
    assert status == 0
    added = Results.read(path)  # temporal metrics are added later; the other scores stay
    for scores, before in ((added.scores["plain"][0], results.scores["plain"][0]),
                           (added.references["teacher"], results.references["teacher"])):  # fmt: skip
        assert scores["validation"]["mean"].items() > before["validation"]["mean"].items()
        assert {"tof", "t_diff", "warping_error"} < scores["validation"]["mean"].keys()
    results = added

    monkeypatch.setattr(runner, "evaluate", None)  # nothing is scored again
    monkeypatch.setattr(runner, "measure_temporal_share", share_of)
    status, out, _ = run_tiny(tiny, capsys, *args, "--neighbors", "true,copies", variants="plain", out="other_set")
    assert status == 0
    assert "temporal share [dB]" in out
    measured = Results.read(path)
    assert measured.scores["plain"][0]["validation"].pop("neighbors") == {"true": 0.75, "copies": 0.5}
    assert measured.scores == results.scores
    status, _, err = run_tiny(tiny, capsys, "--seeds", 1, variants="plain", out="other_set")
    assert status == 2
    assert "validation_set" in err


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (["--variants", "sd_large"], "sd_large"),
        (["--primary", "outputs_w2"], "outputs_w2"),
        (["--pairs", "plain,sd_w1"], "plain"),
        (["--pairs", "plain:outputs_w2"], "plain:outputs_w2"),
        (["--neighbors", "true,copy"], "copy"),
        (["--seeds", "0"], "seeds: want 1 or more, got 0"),
        (["--out", "none"], "none/results.json"),
    ],
)
def test_invalid_settings_raise_before_training(capsys, args, pattern):
    assert main(["experiment", *args]) == 2
    assert pattern in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def shared(tmp_path):
    """Settings of an experiment whose footage has a manifest."""
    (tmp_path / "manifest.json").write_text("{}")
    teacher = Network(name="basicvsr_s", weights="pretrained:basicvsr_s")

    def make(**changes):
        return shared_config(
            data=str(tmp_path), teacher=teacher, student="vespcn_s", steps=1, changes={**changes, "threads": 1}
        )

    return make


def test_recorded_settings_name_data_and_weights_by_checksums(shared, tmp_path):
    stills = save(tmp_path / "stills", sample("carphone", frames=1).frames).parent / "stills"
    plain = runner.experiment_settings(shared())
    changes = {
        "data.stills": str(stills), "data.stills_share": 0.25, "data.stills_min_speed": 0.1, "data.moving_share": 0.5,
        "student.weights": "pretrained:vespcn_plain",
        "optimizer.ema_decay": 0.9,
    }  # fmt: skip
    changed = runner.experiment_settings(shared(**changes))
    differing = {name for name in changed if changed[name] != plain[name]}
    assert differing == changes.keys()
    checksums = {"data.stills", "student.weights", "student.flow_weights", "teacher.weights"}
    assert all(len(changed[name]) == 64 and str(tmp_path) not in changed[name] for name in checksums)
    assert len(plain["data.clips"][0]) == 64
    assert json.loads(json.dumps(changed)) == changed


def test_recorded_settings_leave_out_what_variants_change(shared):
    settings = runner.experiment_settings(shared())
    assert not {"seed", "distillation.spatial_weight", "distillation.ratios.temporal", "threads"} & settings.keys()
    assert not any(name.startswith(("plain", "distillation.losses")) for name in settings)


def test_all_runs_have_one_memory_format_and_precision(shared, monkeypatch):
    """A measurement of `workbench tune` for one of the variants on this machine does not change it."""
    tuned = asdict(Tuning("contiguous", 2, {"contiguous, 2 threads": 1.0}, 1.5, ""))
    monkeypatch.setattr("workbench.measurements.load", lambda key: tuned if key["memory_format"] == "auto" else None)
    common = replace(shared(), threads=0)
    for name in ("plain", "sd_w0.01", "output_w2+td_w0.3"):
        config, _ = settle_tuning(variant_config(find_variant(name), common, 0), measure=False)
        assert (config.memory_format, config.precision) == ("channels_last", "fp32")


def test_a_validation_set_is_recorded_by_its_content(shared, tiny, tmp_path):
    first = runner.experiment_settings(shared(), open_set("folders", tiny / "set"))["validation_set"]
    assert len(set(first)) == 2
    save(tmp_path / "moved" / "corner", sample("carphone", frames=2).frames[:, :32, :40])
    save(tmp_path / "moved" / "other", sample("carphone", frames=2).frames[:, :32, :40])
    second = runner.experiment_settings(shared(), open_set("folders", tmp_path / "moved"))["validation_set"]
    assert second == [first[0], first[0]]


@pytest.mark.parametrize(("references", "scored"), [(True, 2), (False, 0)])
def test_bicubic_and_the_teacher_are_scored_on_request(shared, tmp_path, monkeypatch, references, scored):
    calls = []
    monkeypatch.setattr(runner, "held_out_clips", lambda *_: [])
    monkeypatch.setattr(runner, "score_network", lambda network, sets, **_: calls.append(sets) or {})
    runner.run_experiment([], [], shared(), tmp_path / "out", references=references)
    assert len(calls) == scored


def test_data_without_held_out_sources_raises(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "open_pairs", lambda *_, **__: [])
    with pytest.raises(DataError, match="--validation"):
        runner.run_experiment([find_variant("plain")], [0], shared(), tmp_path / "out")


def test_a_clash_of_settings_is_a_config_error(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "held_out_clips", lambda *_: None)
    runner.run_experiment([], [], shared(), tmp_path / "out", references=False)
    Results(runner.experiment_settings(shared())).write(tmp_path / "out" / "results.json")
    with pytest.raises(ConfigError, match=r"data\.crop_size: got 16, expected 24"):
        runner.run_experiment([], [], shared(**{"data.crop_size": 16}), tmp_path / "out", references=False)
