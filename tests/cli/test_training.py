import pytest

from workbench.cli import main
from workbench.presets import PRESETS
from workbench.runs import Run


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A run of two steps that is done with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_KEEP_MEMORY", "0")
    assert main(["train", "--preset", "smoke", "--name", "small", "--threads", "1"]) == 0
    return Run(tmp_path / "runs" / "small")


def test_a_run_goes_on_with_its_own_settings(begun, capsys):
    assert main(["train", "--resume", "small"]) == 0, "there is nothing left to do"
    assert main(["train", "--resume", "small", "--steps", "3", "--data.batch-size", "4"]) == 2
    told = capsys.readouterr().err
    assert "small: a run is resumed with its own settings" in told
    assert "steps: the run has 2, not 3" in told
    assert "data.batch_size: the run has 1, not 4" in told
    assert begun.config().steps == 2


def test_an_estimate_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.training.estimate.MIN_SPEEDUP", 100)  # two batch sizes, however fast the machine is
    assert main(["train", "--preset", "smoke", "--estimate", "--threads", "1", "--data.crop-size", "16"]) == 0
    seen = capsys.readouterr()
    assert "clips a second" in seen.out
    assert "fits by extrapolation" in seen.err
    assert list(tmp_path.iterdir()) == []


def test_the_help_offers_every_preset(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--preset", "cpu_long", "--help"])
    assert end.value.code == 0
    assert f"--preset {{{','.join(PRESETS)}}}" in " ".join(capsys.readouterr().out.split())
