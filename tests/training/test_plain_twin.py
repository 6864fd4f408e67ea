"""Plain student in the snapshots of a distilled run: same step, same clip, or none."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from workbench.config import Network, RunConfig
from workbench.data.sampling.crops import make_pair
from workbench.errors import ConfigError, FolderError
from workbench.models.weights import save
from workbench.models.zoo import build
from workbench.presets import PRESETS
from workbench.runs import Run, locate_run, shipped
from workbench.scenes import read_scene
from workbench.training.plain_twin import open_plain
from workbench.training.worker import prepare_run, validation_clip, work


@pytest.fixture(scope="module")
def plain(small, tmp_path_factory):
    """A finished run without a teacher, with snapshots at 0, 4 and 8."""
    run = prepare_run(tmp_path_factory.mktemp("plain") / "plain", replace(small, teacher=Network()))
    assert work(run) == "finished"
    return run


@pytest.fixture(scope="module")
def distilled(small, plain, tmp_path_factory):
    """Return a distilled run with snapshots at 0, 2, ... 8. The plain run has every second one."""
    config = replace(small, plain_run=str(plain.folder), snapshot_every=2)
    run = prepare_run(tmp_path_factory.mktemp("distilled") / "distilled", config)
    assert work(run) == "finished"
    return run


def keys(run, step):
    return [method.key for method in run.snapshot(step).methods]


@pytest.mark.parametrize("step", [0, 4, 8])
def test_frames_and_scores_are_those_of_the_same_step(plain, distilled, step):
    scene, theirs = distilled.snapshot(step), read_scene(plain.folder / "snapshots" / f"{step:07d}")
    assert keys(distilled, step) == ["low", "high", "bicubic", "teacher", "plain", "student"]
    assert np.array_equal(scene.clip("plain"), theirs.clip("student"))
    series = {curve.key: curve.series for curve in scene.curves}
    assert len(series) == 4
    for curve in theirs.curves:
        assert series[curve.key]["plain"] == curve.series["student"]
    assert scene.title == f"distilled, step {step}: distilled and plain student, both at this step"
    assert f"step {step} of plain" in scene.method("plain").note


def test_steps_differ_and_maps_are_drawn_on_the_scale_of_the_run(plain, distilled):
    first, last = distilled.snapshot(0), distilled.snapshot(8)
    assert np.array_equal(first.clip("plain"), first.clip("student"))  # one start, before any step
    assert not np.array_equal(first.clip("plain"), last.clip("plain"))
    maps = {(one.kind, one.method): one for one in last.overlays}
    for kind in ("attention_sum_squares", "attention_sum_abs", "attention_max_squares"):
        assert maps[kind, "plain"].vmax == maps[kind, "student"].vmax == maps[kind, "teacher"].vmax
        theirs = next(one for one in plain.snapshot(8).overlays if (one.kind, one.method) == (kind, "student"))
        assert np.array_equal(last.array(maps[kind, "plain"]), plain.snapshot(8).array(theirs))


@pytest.mark.parametrize("step", [2, 6])
def test_without_a_snapshot_at_the_step_there_is_no_plain_student(distilled, step):
    assert keys(distilled, step) == ["low", "high", "bicubic", "teacher", "student"]
    assert all("plain" not in curve.series for curve in distilled.snapshot(step).curves)
    assert distilled.snapshot(step).title == f"distilled, step {step}"


def test_a_missing_or_slower_plain_run_does_not_block(small, plain, tmp_path):
    shutil.copytree(plain.folder, tmp_path / "behind")
    shutil.rmtree(tmp_path / "behind" / "snapshots" / "0000008")

    def leave(step, _):
        if step.number == 5:
            shutil.rmtree(tmp_path / "behind")

    run = prepare_run(tmp_path / "run", replace(small, plain_run=str(tmp_path / "behind")))
    assert work(run, leave) == "finished"
    assert ["plain" in keys(run, step) for step in (0, 4, 8)] == [True, True, False]


def test_finished_weights_are_shown_at_their_own_step_only(small, plain, tmp_path):
    """Drawn by this run's networks: with maps and memory cells."""
    config = replace(small, plain=Network(name="vespcn", weights=str(plain.weights())), snapshot_every=4)
    run = prepare_run(tmp_path / "run", config)
    assert work(run) == "finished"
    assert ["plain" in keys(run, step) for step in (0, 4, 8)] == [False, False, True]
    scene = run.snapshot(8)
    assert np.array_equal(scene.clip("plain"), plain.snapshot(8).clip("student"))
    assert {one.method for one in scene.overlays if one.kind == "memory"} == {"teacher", "plain", "student"}


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"student": Network(name="vespcn_s")}, r"student\.name 'vespcn_s', got .* with 'vespcn'"),
        ({"student": Network(name="vespcn", skip="none")}, r"student\.skip 'none', got .* with 'bicubic'"),
        ({"scale": 2}, r"data\.scale 2, got .* with 4"),
        (
            {"validation_clip": "[6:9, 0:32, 16:64]"},
            r"data\.validation_clip .*16:64.*got .* another clip .*set data\.validation_clip to that clip",
        ),
        ({"validation_clip": "[6:8, 0:32, 0:48]"}, r"another clip"),
        ({"degradation": "bd_duf"}, r"another clip .*degradation bi"),
    ],
)
def test_another_network_scale_or_clip_raises(small, plain, footage, change, pattern):
    data = {name: value for name, value in change.items() if name != "student"}
    if "validation_clip" in data:
        data["validation_clip"] = f"{footage}{data['validation_clip']}"
    config = replace(small, data=replace(small.data, **data), plain_run=str(plain.folder))
    config = replace(config, student=change.get("student", config.student))
    with pytest.raises(ConfigError, match=rf"^plain_run: want .*{pattern}"):
        open_plain(config, validation_clip(config)[0])


def test_a_plain_run_with_a_teacher_or_without_snapshots_raises(small, distilled, tmp_path):
    for where, error, pattern in (
        (
            distilled.folder,
            ConfigError,
            r"plain_run: want a run without a teacher, got .*distilled with teacher edvr_tiny",
        ),
        (tmp_path, FolderError, r"plain_run: .*no run\.json here"),
        ("pretrained:nothing", FolderError, r"plain_run: no run 'nothing'; there are: .*live_demo_plain"),
    ):
        with pytest.raises(error, match=pattern):
            prepare_run(tmp_path / "run", replace(small, plain_run=str(where)))
    empty = prepare_run(tmp_path / "empty", replace(small, teacher=Network()))
    with pytest.raises(ConfigError, match=r"plain_run: .*snapshots, got .*empty"):
        prepare_run(tmp_path / "run", replace(small, plain_run=str(empty.folder)))
    assert not (tmp_path / "run").exists()


def test_other_settings_are_named(small, plain, caplog):
    data = replace(small.data, batch_size=3)
    open_plain(replace(small, plain_run=str(plain.folder), seed=5, data=data), validation_clip(small)[0])
    assert "was trained with other settings: data.batch_size 1, here 3; seed 0, here 5" in caplog.text
    caplog.clear()
    open_plain(replace(small, plain_run=str(plain.folder), snapshot_every=1, threads=2), validation_clip(small)[0])
    assert caplog.text == ""


def test_auto_takes_fp32_of_the_plain_run_and_another_precision_is_named(small, plain, tmp_path, monkeypatch, caplog):
    """Without it, the pair would differ in more than the teacher."""
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: 0.5)
    pair = replace(small, plain_run=str(plain.folder))
    run = prepare_run(tmp_path / "auto", replace(pair, precision="auto"))
    assert run.config().precision == "fp32"
    assert str(plain.folder) in run.record()["precision"]["reason"]
    assert "plain_run" not in caplog.text
    assert prepare_run(tmp_path / "bf16", replace(pair, precision="bf16")).config().precision == "bf16"
    assert "precision 'fp32', here 'bf16'" in caplog.text


def test_plain_weights_of_an_unknown_step_or_another_network_raise(small, tmp_path):
    save(build("vespcn"), tmp_path / "found.safetensors")
    pair = validation_clip(small)[0]
    with pytest.raises(ConfigError, match=r"plain\.weights: want weights that record .*got .*found\.safetensors"):
        open_plain(replace(small, plain=Network(name="vespcn", weights=str(tmp_path / "found.safetensors"))), pair)
    with pytest.raises(ConfigError, match=r"plain\.name: want the student's network, vespcn, got vespcn_s"):
        open_plain(replace(small, plain=Network(name="vespcn_s")), pair)


def test_a_plain_run_and_plain_weights_together_raise():
    with pytest.raises(ConfigError, match=r"plain_run: .*vespcn.* got 'runs/plain'"):
        RunConfig(plain=Network(name="vespcn"), plain_run="runs/plain")


@pytest.mark.parametrize("name", ["demo", "cpu_long"])
def test_a_preset_with_a_shipped_plain_run_has_it_at_every_snapshot(caplog, name):
    config = PRESETS[name]()
    twin = locate_run(config.plain_run)
    assert set(range(0, config.steps + 1, config.snapshot_every)) <= set(twin.snapshots())
    assert open_plain(config, validation_clip(config)[0]) is not None
    assert caplog.text == ""  # no setting differs
    assert sum(path.stat().st_size for path in twin.folder.rglob("*") if path.is_file()) < 3.3e6


def test_every_shipped_run_can_be_read():
    runs = [Run(path) for path in shipped("runs").iterdir() if (path / "run.json").is_file()]
    assert {run.name for run in runs} == {"live_demo_plain", "vespcn_plain", "vespcn_std"}
    for run in runs:
        steps, shown = run.snapshots(), run.config()
        assert steps[-1] == shown.steps
        plain = [step for step in steps if "plain" in keys(run, step)]
        assert plain == (steps if shown.teacher.name else [])  # the plain student at the same steps


def test_the_clip_of_a_shipped_run_is_the_one_that_is_compared():
    demo = PRESETS["demo"]()
    pair, _ = validation_clip(demo)
    other = make_pair(pair.high[::-1].copy(), scale=4)
    with pytest.raises(ConfigError, match="another clip"):
        open_plain(demo, other)
