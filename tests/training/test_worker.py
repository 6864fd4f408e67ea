"""Files of a finished run: status, metrics, snapshots, weights; the command of a worker."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.interruptions import assert_equal_weights, at, logged, partial_files
from workbench.config import Network
from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import make_pair
from workbench.distillation_config import Distillation
from workbench.inference.chunks import upscale
from workbench.metrics.fidelity import psnr_db
from workbench.models.weights import load, read_tensors
from workbench.models.zoo import build
from workbench.runs import RunWriter, is_locked, request_stop, start_worker
from workbench.training import record, trainer, worker
from workbench.training.worker import check, graceful_shutdown, prepare_run, work


def test_run_json_has_settings_versions_and_checksums(whole, small, teacher_weights):
    record = whole.record()
    assert whole.config() == small
    assert record["seed"] == 0
    assert (
        record["versions"]["torch"] == torch.__version__.split("+")[0]
        or record["versions"]["torch"] == torch.__version__
    )
    assert record["weights"]["teacher"]["file"] == str(teacher_weights)
    assert len(record["weights"]["teacher"]["sha256"]) == 64


def test_a_finished_run_has_no_lock_and_no_partial_files(whole):
    status = whole.status()
    assert (status.state, status.step, status.steps, status.seconds_left) == ("finished", 8, 8, None)
    assert not is_locked(whole.folder)
    assert partial_files(whole) == []


def test_metrics_have_every_step_with_its_terms(whole):
    rows = whole.metrics()
    assert [row["step"] for row in rows] == list(range(1, 9))
    for row in rows:
        assert set(row["terms"]) == set(row["weights"]) == {"reconstruction", "spatial", "temporal"}
        assert row["total"] == pytest.approx(sum(row["weights"][name] * row["terms"][name] for name in row["terms"]))
        assert 0 < row["collapse_index"] < 1
        assert row["gradient_norm"] > 0
        assert row["seconds"] > 0
    assert rows[0]["learning_rate"] == pytest.approx(4e-4)
    assert rows[-1]["learning_rate"] == pytest.approx(1e-6)
    assert [row["weights"]["spatial"] for row in rows[:5]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_snapshots_contain_all_methods_maps_and_curves(whole):
    assert whole.snapshots() == [0, 4, 8]
    scene = whole.snapshot(4)
    assert [m.key for m in scene.methods] == ["low", "high", "bicubic", "teacher", "student"]
    assert (scene.frames, scene.height, scene.width) == (3, 32, 48)
    assert scene.clip("low").shape == (3, 8, 12, 3)
    assert {o.method for o in scene.overlays if o.kind == "memory"} == {"teacher", "student"}
    assert {o.kind for o in scene.overlays} == {
        "attention_sum_squares", "attention_sum_abs", "attention_max_squares", "memory",
    }  # fmt: skip
    for kind in ("memory", "attention_sum_squares"):
        ends = {(o.low, o.high) for o in scene.overlays if o.kind == kind}
        assert len(ends) == 1
    curves = {curve.key: curve.series for curve in scene.curves}
    assert set(curves) == {"psnr_y_db", "ssim_y", "t_diff", "tof"}
    assert all(set(series) == {"bicubic", "teacher", "student"} for series in curves.values())
    assert scene.protocol == {"degradation": "bi", "scale": 4, "channel": "Y", "crop_border": 0}
    assert scene.provenance["held_out"] is True


def test_frames_and_scores_of_snapshots_are_those_of_the_networks(whole, small, teacher_weights):
    pair = make_pair(load_clip(small.data.validation_clip).frames, scale=4)
    scene = whole.snapshot(8)
    assert np.array_equal(scene.clip("high"), pair.high)
    assert np.array_equal(scene.clip("low"), pair.low)
    assert np.array_equal(scene.clip("bicubic"), upscale(build("bicubic"), pair.low))
    for method, weights in (("teacher", teacher_weights), ("student", whole.weights())):
        made = upscale(load(weights), pair.low)
        assert np.abs(scene.clip(method).astype(int) - made).max() <= 1
    (psnr,) = (curve.series for curve in scene.curves if curve.key == "psnr_y_db")
    assert psnr["student"] == pytest.approx(psnr_db(scene.clip("student"), pair.high).tolist(), rel=1e-5)


def test_frames_of_the_student_change_between_snapshots(whole):
    first, last = whole.snapshot(0), whole.snapshot(8)
    assert not np.array_equal(first.clip("student"), last.clip("student"))
    assert np.array_equal(first.clip("teacher"), last.clip("teacher"))


def test_weights_files_contain_run_and_step(whole):
    network = load(whole.weights())
    assert network.recipe["name"] == "vespcn"
    _, record = read_tensors(whole.weights())
    assert json.loads(record["card"]) == {"run": "whole", "step": 8}
    tensors, record = read_tensors(whole.weights("memory"))
    assert json.loads(record["memory"])["hidden_channels"] == 2
    assert "lstm.input_conv.weight" in tensors


def test_the_last_two_checkpoints_are_kept(whole):
    assert whole.checkpoints() == [6, 8]


def test_working_on_a_finished_run_changes_nothing(whole):
    before = logged(whole)
    assert work(whole) == "finished"
    assert logged(whole) == before
    assert whole.status().step == 8


def test_runs_of_equal_settings_are_equal(run, whole):
    assert work(run) == "finished"
    assert logged(run) == logged(whole)
    assert_equal_weights(run, whole)


def test_a_plain_run_has_the_reconstruction_loss_alone(small, tmp_path, whole):
    plain = prepare_run(tmp_path / "plain", replace(small, teacher=Network(), steps=2))
    assert work(plain) == "finished"
    assert [list(row["terms"]) for row in plain.metrics()] == [["reconstruction"]] * 2
    assert plain.metrics()[0]["terms"]["reconstruction"] == whole.metrics()[0]["terms"]["reconstruction"]
    assert "collapse_index" not in plain.metrics()[0]
    scene = plain.snapshot(2)
    assert [m.key for m in scene.methods] == ["low", "high", "bicubic", "student"]
    assert scene.method("student").label == "Student"
    assert not plain.weights("memory").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"student": Network(name="edvr_tiny")},
        {"data": "scale 2"},
        {"precision": "bf16"},
        {"distillation": Distillation(temporal_weight=0.0, feature_layer="shuffle")},
        {
            "distillation": Distillation(
                spatial_weight=0.0, memory_mode="trained_then_frozen", freeze_below=1e3, memory_stride=1
            )
        },
    ],
    ids=["edvr as a student", "scale 2", "bf16", "spatial only", "temporal only, frozen at once"],
)
def test_runs_with_other_settings_finish(small, tmp_path, change, whole):
    if change == {"data": "scale 2"}:
        change = {"data": replace(small.data, scale=2), "teacher": Network()}
    run = prepare_run(tmp_path / "other", replace(small, steps=2, **change))
    assert work(run) == "finished"
    assert len(run.metrics()) == 2
    assert run.snapshots() == [0, 2]
    if "distillation" in change and change["distillation"].memory_mode == "trained_then_frozen":
        assert "memory frozen" in run.metrics()[0]["notes"][0]
        assert bool(read_tensors(run.weights("memory"))[0]["frozen"])


# -- stop and resume ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 4])
def test_stopped_and_resumed_equals_uninterrupted(run, whole, step):
    """Before the first state, between two, and on one."""
    assert work(run, at(step, lambda: request_stop(run))) == "stopped"
    status = run.status()
    assert (status.state, status.step, status.reason) == ("stopped", step, "as requested")
    assert [row["step"] for row in run.metrics()] == list(range(1, step + 1))
    assert work(run) == "finished"
    same_losses(run, whole)
    same_weights(run, whole)
    assert run.snapshots() == [0, 4, 8]


def test_what_networks_draw_while_they_learn_is_resumed_too(run, small, tmp_path):
    """Dropout, say: the dice of a step do not depend on what happened before it."""
    drawn = {}

    def draw(done, _steps):
        drawn.setdefault(done.number, []).append(torch.rand(()).item())
        if done.number == 3 and len(drawn[3]) == 1:
            raise Gone

    with pytest.raises(Gone):
        work(run, draw)
    torch.manual_seed(99)
    assert work(run, draw) == "finished"
    assert len(drawn[3]) == 2
    assert drawn[3][0] == drawn[3][1]
    assert len({values[-1] for values in drawn.values()}) == 8, "another draw at every step"


def edited(run, name, value):
    """Change a setting of a run behind its back."""
    path = run.folder / "run.json"
    record = json.loads(path.read_text())
    group, _, last = name.rpartition(".")
    (record["config"][group] if group else record["config"])[last] = value
    path.write_text(json.dumps(record))


def test_a_state_of_other_settings_is_refused_and_named(run, small):
    assert work(run, at(3, lambda: request_stop(run))) == "stopped"
    edited(run, "data.crop_size", 9)
    edited(run, "seed", 5)
    with pytest.raises(
        ConfigError, match=r"other settings \(data.crop_size: 8 then, 9 now; seed: 0 then, 5 now\); put them"
    ):
        work(run)
    assert run.status().state == "failed"
    edited(run, "data.crop_size", 8)
    edited(run, "seed", 0)
    edited(run, "save_every", 3)
    assert work(run) == "finished", "how often a run saves may change"


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_gone_and_resumed_equals_uninterrupted(run, whole, step):
    """Steps after the newest state are forgotten and done again."""
    with pytest.raises(Gone):
        work(run, at(step, vanish))
    assert run.status().state == "crashed"
    assert [row["step"] for row in run.metrics()] == list(range(1, step + 1))
    assert work(run) == "finished"
    same_losses(run, whole)
    same_weights(run, whole)
    assert run.snapshots() == [0, 4, 8]
    assert hidden(run) == []


def test_a_half_written_line_is_ignored_and_overwritten(run, whole):
    with pytest.raises(Gone):
        work(run, at(5, vanish))
    with (run.folder / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 6, "terms": {"reconstr')
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5]
    assert work(run) == "finished"
    same_losses(run, whole)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("optimizer.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("student.safetensors", lambda path: path.write_bytes(b"")),
        ("objective.safetensors", lambda path: path.unlink()),
        ("state.json", lambda path: path.write_text("{")),
    ],
)
def test_a_damaged_state_falls_back_to_the_one_before(run, whole, file, damage):
    with pytest.raises(Gone):
        work(run, at(5, vanish))
    assert run.checkpoints() == [2, 4]
    damage(run.folder / "checkpoints" / "0000004" / file)
    resumed_at = []
    assert work(run, lambda done, _steps: resumed_at.append(done.number)) == "finished"
    assert resumed_at[0] == 3
    same_losses(run, whole)
    same_weights(run, whole)


def test_without_a_readable_state_the_run_says_so(run):
    with pytest.raises(Gone):
        work(run, at(5, vanish))
    for step in (2, 4):
        (run.folder / "checkpoints" / f"{step:07d}" / "student.safetensors").write_bytes(b"")
    with pytest.raises(FolderError, match=r"demo: no checkpoint can be read: step 4: .*step 2: "):
        work(run)
    assert run.status().state == "failed"
    assert "no checkpoint can be read" in run.status().reason
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5], "nothing that was logged is thrown away"


def test_a_run_stops_by_itself_when_its_time_is_over(small, tmp_path):
    run = prepare_run(tmp_path / "brief", replace(small, stop_after_seconds=1e-9))
    assert work(run) == "stopped"
    assert (run.status().step, run.status().reason) == (1, "time limit of 0 s reached")
    assert run.status().resumable


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_finishes_the_step(run, number):
    before = signal.getsignal(number)
    assert work(run, at(3, lambda: os.kill(os.getpid(), number))) == "stopped"
    assert (run.status().state, run.status().step) == ("stopped", 3)
    assert run.checkpoints()[-1] == 3
    assert signal.getsignal(number) is before, "handlers are put back"


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_last_step_is_heard_by_who_does_several_runs(run, small, number):
    before = signal.getsignal(number)
    with graceful_shutdown() as stop_requested:
        assert work(run, at(small.steps, lambda: os.kill(os.getpid(), number))) == "finished"
        assert stop_requested()
    assert signal.getsignal(number) is before
    with graceful_shutdown() as stop_requested:
        assert not stop_requested(), "it is not heard again"


@pytest.mark.posix
def test_a_signal_is_heard_after_an_inner_watch_has_ended():
    with graceful_shutdown() as stop_requested:
        with graceful_shutdown() as inner:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
        assert not inner()


# -- what goes wrong ------------------------------------------------------------------------------------------------


def full(*_args, **_settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_failed_for_want_of_space(run, step):
    status = run.status()
    assert (status.state, status.step) == ("failed", step)
    assert "No space left on device" in status.reason
    assert not (run.folder / "reserve").exists(), "freed, so that this could be written"
    assert not is_locked(run.folder)
    assert hidden(run) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_no_space_for_a_line(run, whole, monkeypatch):
    """The disk is full from the fourth line on: it goes to /dev/full, which takes nothing, not even at the end."""
    real = RunWriter.log

    def log(self, row):
        if row["step"] == 4:
            self._metrics.close()
            self._metrics = open("/dev/full", "a")  # noqa: SIM115
        real(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "log", log)
        with pytest.raises(OSError, match="No space left"):
            work(run)
    assert_failed_for_want_of_space(run, 4)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.snapshot(0).frames == 3
    assert work(run) == "finished"
    same_losses(run, whole)
    assert (run.folder / "reserve").exists()


def test_no_space_for_a_snapshot(run, whole, monkeypatch):
    """Its pictures cannot be written: no half snapshot is left, and the earlier one can be seen."""
    real = scenes.SceneWriter._write

    def write(self, home, pictures):
        if "0000004" in str(home):
            full()
        real(self, home, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(scenes.SceneWriter, "_write", write)
        with pytest.raises(OSError, match="No space left"):
            work(run)
    assert_failed_for_want_of_space(run, 4)
    assert run.snapshots() == [0]
    assert run.snapshot(0).clip("student").shape == (3, 32, 48, 3)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    assert work(run) == "finished"
    same_losses(run, whole)
    assert run.snapshots() == [0, 4, 8]


def test_no_space_for_a_state(run, whole, monkeypatch):
    """The second file of the second state cannot be written: the first state is still there."""
    real = record.save_tensors

    def save(path, *rest):
        if path.parent.name == ".0000004.partial" and path.name == "objective.safetensors":
            full()
        real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(record, "save_tensors", save)
        with pytest.raises(OSError, match="No space left"):
            work(run)
    assert_failed_for_want_of_space(run, 4)
    assert run.checkpoints() == [0, 2]
    assert work(run) == "finished"
    same_losses(run, whole)


def test_no_space_for_the_first_picture(run, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(scenes.SceneWriter, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            work(run)
    assert_failed_for_want_of_space(run, 0)
    assert run.metrics() == []
    assert work(run) == "finished"
    same_losses(run, whole)


def test_the_status_itself_needs_the_reserve(run, monkeypatch):
    """From the third step on not a byte is free but what the reserve holds."""
    monkeypatch.setattr(worker, "STATUS_INTERVAL_SECONDS", -1.0)
    real, is_full = runs.write_atomic, []

    def write(path, content):
        if is_full and (run.folder / "reserve").exists():
            full()
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_atomic", write)
        with pytest.raises(OSError, match="No space left"):
            work(run, at(2, lambda: is_full.append(1)))
    assert_failed_for_want_of_space(run, 3)


def test_a_loss_that_is_not_finite_fails_the_run_and_names_the_term(run, monkeypatch):
    """The weights and states of the steps before are kept as they were."""

    def poison(self, step, share=slice(None)):
        low, high = real(self, step, share)
        return low, high * (float("nan") if step == 5 else 1.0)

    real = trainer.CropSampler.at
    monkeypatch.setattr(trainer.CropSampler, "at", poison)
    with pytest.raises(FloatingPointError, match="step 5: reconstruction"):
        work(run)
    status = run.status()
    assert (status.state, status.step) == ("failed", 4)
    assert "FloatingPointError: step 5: reconstruction" in status.reason
    assert run.checkpoints() == [2, 4]
    assert all(value.isfinite().all() for value in read_tensors(run.weights())[0].values())


def test_no_memory_says_what_to_make_smaller(small, tmp_path, monkeypatch):
    config = replace(small, data=replace(small.data, batch_size=4))
    run = prepare_run(tmp_path / "large", config)

    def hungry(*_args, **_settings):
        torch.empty(2**55)  # torch's own words

    monkeypatch.setattr(trainer.Trainer, "steps", hungry)
    with pytest.raises(
        OutOfMemory,
        match=r"data.batch_size 4 in 1 .*gradient_accumulation_steps 2 .*data.batch_size 2, or data.crop_size 4",
    ):
        work(run)
    assert run.status().state == "failed"
    assert run.status().reason.startswith("OutOfMemory: out of memory: data.batch_size 4")
    assert run.status().resumable


@pytest.mark.posix
def test_a_loader_worker_that_dies_fails_the_run_and_a_resume_is_exact(small, tmp_path, monkeypatch, whole):
    run = prepare_run(tmp_path / "lost", replace(small, data=replace(small.data, num_workers=1)))
    real = CropSampler.at

    def doomed(sampler, step, *args):
        if step == 4 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(sampler, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "at", doomed)
        with pytest.raises(
            LoaderError, match=r"data\.num_workers: one of 1 .*DataLoader worker .* killed.*--resume lost"
        ):
            work(run)
    assert run.status().state == "failed"
    assert "DataLoader worker" in run.status().reason
    assert main(["train", "--resume", "lost", "--runs", str(tmp_path), "--data.num-workers", "0"]) == 0
    assert run.config().data.num_workers == 0
    same_losses(run, whole)
    same_weights(run, whole)


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, "bf16"), (30.0, "fp32")])
def test_precision_auto_is_recorded_and_kept_by_a_resume(small, tmp_path, monkeypatch, ratio, chosen):
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: ratio)
    config = replace(small, precision="auto", device="cpu", teacher=Network(), steps=2)
    run = prepare_run(tmp_path / "auto", config)
    assert run.config() == replace(config, precision=chosen)
    assert run.record()["precision"] | {"reason": ""} == {
        "precision": chosen, "wanted": "auto", "relative_time": ratio, "reason": ""
    }  # fmt: skip
    monkeypatch.setattr("workbench.precision.relative_time", lambda *args: 1 / ratio)
    assert work(run, at(1, lambda: request_stop(run))) == "stopped"
    assert work(run) == "finished"
    assert run.config().precision == chosen


def test_an_error_of_a_loader_process_comes_without_its_traceback(small, tmp_path, monkeypatch):
    def damaged(sampler, step, *args):
        raise DataError("set/high/a.npy: was changed")

    run = prepare_run(tmp_path / "damaged", replace(small, data=replace(small.data, num_workers=1)))
    monkeypatch.setattr(CropSampler, "at", damaged)
    with pytest.raises(DataError, match=r"^set/high/a\.npy: was changed$"):
        work(run)
    assert run.status().reason == "DataError: set/high/a.npy: was changed"


def test_a_learning_rate_that_is_too_high_is_named_at_the_validation_clip_too(small, tmp_path):
    """The snapshot after the first update sees it before the second loss does."""
    hasty = replace(small.optimizer, learning_rate=1e30, max_grad_norm=0.0)
    run = prepare_run(tmp_path / "hasty", replace(small, teacher=Network(), snapshot_every=1, optimizer=hasty))
    with pytest.raises(FloatingPointError, match=r"step 1: .*validation clip.*optimizer\.learning_rate below 1e\+30"):
        work(run)
    assert run.status().state == "failed"
    assert run.checkpoints() == [0]


def test_weights_that_were_bad_from_the_beginning_are_not_blamed_on_the_learning_rate(run, monkeypatch):
    def bad(*args, **settings):
        raise ResultError("frame 0: NaN or infinity in the result", 0)

    monkeypatch.setattr(worker, "write_snapshot", bad)
    with pytest.raises(ResultError, match="frame 0: NaN") as refused:
        work(run)
    assert "learning_rate" not in str(refused.value)


def test_what_nobody_foresaw_is_told_too(run):
    """A mistake in a viewer or a library is a failure with a reason, not a worker gone without a word."""

    def trip():
        raise ValueError("nobody thought of this")

    with pytest.raises(ValueError, match="nobody thought"):
        work(run, at(2, trip))
    assert (run.status().state, run.status().step) == ("failed", 2)
    assert run.status().reason == "ValueError: nobody thought of this"


def test_a_failure_while_resuming_keeps_the_step(run, monkeypatch):
    """A run that had come to step 5 does not say step 0 because it could not begin again."""
    with pytest.raises(Gone):
        work(run, at(5, vanish))
    monkeypatch.setattr(trainer, "load_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        work(run)
    assert run.status().step == 5


def test_footage_that_disappeared(small, tmp_path, footage):
    elsewhere = tmp_path / "clip"
    elsewhere.mkdir()
    for file in footage.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    run = prepare_run(tmp_path / "demo", replace(small, data=replace(small.data, clips=(str(elsewhere),))))
    for file in elsewhere.iterdir():
        file.unlink()
    elsewhere.rmdir()
    with pytest.raises((VideoError, UnknownNameError)):
        work(run)
    assert run.status().state == "failed"
    assert str(elsewhere) in run.status().reason


# -- what is refused before a folder is made ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"student": Network(name="vespnc")}, UnknownNameError, "no network 'vespnc'; did you mean 'vespcn'"),
        ({"student": Network(name="bicubic")}, ConfigError, "student.name: bicubic"),
        ({"student": Network(name="vespcn_paper")}, ConfigError, "vespcn_paper has no high-resolution features"),
        (
            {"student": Network(name="vespcn", weights="TEACHER")},
            WeightsError,
            "got edvr_tiny",
        ),
        ({"teacher": Network(name="edvr_tiny", weights="no.safetensors")}, WeightsError, "no such file"),
        ({"teacher": Network(name="bicubic", weights="x")}, WeightsError, "no such file"),
        ({"student": Network(name="vespcn", weights="pretrained:vespcn")}, UnknownNameError, "no pretrained weights"),
        ({"data": Data(clips=("bigbuckbuny",))}, UnknownNameError, "did you mean 'bigbuckbunny'"),
        ({"data": Data(validation_clip="nowhere.mp4")}, VideoError, "nowhere.mp4"),
    ],
    ids=lambda value: "",
)
def test_what_cannot_work_is_refused_before_anything_is_made(small, tmp_path, teacher_weights, change, error, said):
    if change.get("student", Network()).weights == "TEACHER":
        change = {"student": Network(name="vespcn", weights=str(teacher_weights))}
    if "data" in change:
        wanted = change["data"]
        data = replace(small.data, clips=wanted.clips) if wanted.validation_clip == Data().validation_clip else replace(
            small.data, validation_clip=wanted.validation_clip
        )  # fmt: skip
        change = {"data": data}
    with pytest.raises(error) as caught:
        prepare_run(tmp_path / "demo", replace(small, **change))
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_vespcn_paper_can_be_trained_plainly(small):
    check(replace(small, student=Network(name="vespcn_paper"), teacher=Network()))


@pytest.mark.parametrize("data", [{"crop_size": 21}, {"num_frames": 7}])
def test_crops_that_do_not_fit_the_footage(small, tmp_path, data):
    """Refused with name and sizes before a run folder is made."""
    config = replace(small, data=replace(small.data, **data))
    with pytest.raises(DataError, match=r"waves\[0:6\]: 6 frames of 20x16 .*data\.crop_size or data\.num_frames"):
        prepare_run(tmp_path / "demo", config)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", ["a b", "..", ".hidden"])
def test_a_run_s_name_is_a_folder_name(small, tmp_path, name):
    with pytest.raises(FolderError, match="want 1 to 64 letters"):
        prepare_run(tmp_path / name, small)
    assert list(tmp_path.iterdir()) == []


# -- real processes -------------------------------------------------------------------------------------------------


def wait_for(condition, pid, seconds=120):
    """Wait until something is so; fail at once where the worker is gone."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)
        with suppress(ChildProcessError):
            gone, _ = os.waitpid(pid, os.WNOHANG)
            assert not gone or condition(), "the worker is gone"


def wait_for_the_end(pid):
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.fixture
def long_run(small, tmp_path):
    """Too long to end by itself while a test looks at it."""
    run = prepare_run(tmp_path / "long", replace(small, steps=5000, snapshot_every=5000))
    pids = []
    yield run, pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for_the_end(pid)


@pytest.mark.posix
def test_kill_9_then_resume_equals_uninterrupted(long_run, small, tmp_path):
    """A worker in a process of its own is killed without warning; the run is gone on with here."""
    run, pids = long_run
    pids.append(start_worker(run))
    wait_for(lambda: len(run.metrics()) >= 5, pids[-1])
    assert run.status().state == "running"
    with pytest.raises(BusyError, match="long: a worker"):
        start_worker(run)
    with pytest.raises(BusyError, match="long: another worker"):
        work(run)
    os.kill(pids[-1], signal.SIGKILL)
    wait_for_the_end(pids[-1])
    assert run.status().state == "crashed"
    assert run.status().resumable
    killed_at = run.metrics()[-1]["step"]

    last = killed_at + 2
    assert work(run, at(last, lambda: request_stop(run))) == "stopped"
    never_killed = prepare_run(tmp_path / "whole", run.config())
    assert work(never_killed, at(last, lambda: request_stop(never_killed))) == "stopped"
    assert [row["step"] for row in run.metrics()] == list(range(1, last + 1))
    same_losses(run, never_killed)
    same_weights(run, never_killed)


CRASH = """
import os, pathlib, shutil, signal, sys

def doomed(name, real, fatal, count):
    def call(*args, **settings):
        count[0] += 1
        if count[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **settings)
    return call

import torch
from workbench.runs import Run
from workbench.training import worker
from workbench.training.worker import work

worker.STATUS_INTERVAL_SECONDS = -1.0  # write the status at every step: more places to be killed at

torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports much, here once instead of in every child
for argument in sys.argv[1:]:
    folder, _, fatal = argument.rpartition("@")
    child = os.fork()
    if not child:
        count = [0]
        for home, name in ((os, "fsync"), (os, "replace"), (pathlib.Path, "rename"), (shutil, "rmtree")):
            setattr(home, name, doomed(name, getattr(home, name), int(fatal), count))
        work(Run(pathlib.Path(folder)))
        (pathlib.Path(folder) / "count").write_text(str(count[0]))
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""
"""Runs workers that are killed at the n-th time they flush, rename or remove anything; 0: never."""


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_in_the_middle_of_writing(small, tmp_path):
    """kill -9 before a flush, a rename, a removal: whatever was being written, a resume equals no interruption."""
    plain = replace(small, teacher=Network(), steps=4, save_every=1, snapshot_every=2)
    whole = prepare_run(tmp_path / "whole", plain)
    places = [1, 10, 26, 45, 64, 83, 100]
    killed = {place: prepare_run(tmp_path / f"killed-{place}", plain) for place in places}
    arguments = [f"{whole.folder}@0", *(f"{run.folder}@{place}" for place, run in killed.items())]
    said = subprocess.run([sys.executable, "-c", CRASH, *arguments], capture_output=True, text=True, check=True)
    assert [int(number) for number in said.stdout.split()] == [0] + [signal.SIGKILL] * len(places)
    assert int((whole.folder / "count").read_text()) < 125, "the places cover the whole run"
    for run in killed.values():
        assert run.status().state in ("crashed", "queued")
        steps = [row["step"] for row in run.metrics()]
        assert steps == list(range(1, len(steps) + 1))
        for step in run.snapshots():
            assert run.snapshot(step).clip("student").shape == (3, 32, 48, 3)
        assert work(run) == "finished"
        same_losses(run, whole)
        same_weights(run, whole)
        assert run.snapshots() == [0, 2, 4]


def test_the_command_that_is_a_worker(whole, tmp_path, monkeypatch, caplog):
    """``python -m workbench.training.worker RUN``: 0 when done; 1 and one sentence for an error of ours."""
    caplog.set_level("INFO")
    monkeypatch.setattr(sys, "argv", ["worker", str(whole.folder)])
    assert worker.main() == 0
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path / "nothing")])
    assert worker.main() == 1
    assert caplog.messages[0] == "whole: finished"
    assert "no run.json here" in caplog.messages[1]
    assert not (tmp_path / "nothing").exists()
