import pytest

from workbench.cli import main
from workbench.models.weights import save
from workbench.models.zoo import build
from workbench.presets import PRESETS
from workbench.runs import Run


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """Finished run of two steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_KEEP_MEMORY", "0")
    assert main(["train", "--preset", "smoke", "--name", "small", "--threads", "1"]) == 0
    return Run(tmp_path / "runs" / "small")


def test_resume_keeps_the_settings_of_the_run_and_refuses_others(finished_run, capsys):
    assert main(["train", "--resume", "small"]) == 0
    assert main(["train", "--resume", "small", "--steps", "3", "--data.batch-size", "4"]) == 2
    error = capsys.readouterr().err
    assert "small: a run is resumed with its own settings" in error
    assert "steps: the run has 2, not 3" in error
    assert "data.batch_size: the run has 1, not 4" in error
    assert finished_run.config().steps == 2


def test_scores_after_a_training_name_their_clip(finished_run, capsys):
    assert main(["train", "--resume", "small"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert finished_run.config().data.validation_clip.replace(" ", "") in said.replace(" ", "")


def test_init_only_measures_nothing_and_creates_the_run(tmp_path, monkeypatch, capsys):
    def measure(*_args, **_settings):
        raise AssertionError("measured")

    monkeypatch.setenv("WORKBENCH_TUNE", "1")
    monkeypatch.setattr("workbench.training.tuning.tune", measure)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--preset", "smoke", "--name", "small", "--init-only"]) == 0
    status = Run(tmp_path / "runs" / "small").status()
    assert (status.state, status.step, status.resumable) == ("created", 0, True)
    assert main(["runs"]) == 0
    assert "created" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["distilled", "plain", "teacher", "bicubic", "high"])
def test_names_of_methods_are_refused_for_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--preset", "smoke", "--name", name]) == 2
    assert repr(name) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_the_skip_is_that_of_the_weights_unless_an_option_sets_it(role, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(build("edvr_tiny", skip="bilinear"), tmp_path / "ours.safetensors")
    command = ["train", "--preset", "smoke", "--init-only", f"--{role}.name", "edvr_tiny"]
    command += [f"--{role}.weights", "ours.safetensors", "--plain.name", "", "--plain-run", ""]
    assert main([*command, "--name", "first"]) == 0
    assert getattr(Run(tmp_path / "runs" / "first").config(), role).skip == "bilinear"
    assert main([*command, "--name", "second", f"--{role}.skip", "none"]) == 2
    assert f"--{role}.skip" in capsys.readouterr().err


def test_estimate_prints_a_table_and_writes_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.training.estimate.MIN_SPEEDUP", 100)  # two batch sizes, however fast the machine is
    assert main(["train", "--preset", "smoke", "--estimate", "--threads", "1", "--data.crop-size", "16"]) == 0
    output = capsys.readouterr()
    assert "clips a second" in output.out
    assert "fits by extrapolation" in output.err
    assert list(tmp_path.iterdir()) == []


def test_init_only_measures_no_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_TUNE", "1")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("workbench.training.tuning.run_measurement", None)
    assert main(["train", "--preset", "smoke", "--steps", "100000", "--name", "small", "--init-only"]) == 0
    assert Run(tmp_path / "runs" / "small").record()["tuning"]["seconds"] == {}
    assert "measuring the speed" not in capsys.readouterr().err


def test_help_lists_every_preset(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--preset", "cpu_long", "--help"])
    assert end.value.code == 0
    assert f"--preset {{{','.join(PRESETS)}}}" in " ".join(capsys.readouterr().out.split())
