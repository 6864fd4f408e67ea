"""Runs that are resumed on their data, on moved data and on other data."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from workbench.cli import main
from workbench.errors import BusyError, DataError
from workbench.runs import Run, RunWriter, request_stop
from workbench.training.data_check import rename_data
from workbench.training.worker import prepare_run, work


@pytest.fixture
def place(small, footage, tmp_path):
    """Training clip and validation clip in folders of their own, and a run of them that stopped at step 2."""
    for name in ("clip", "probe"):
        shutil.copytree(footage, tmp_path / name)
    data = replace(
        small.data, clips=(f"{tmp_path / 'clip'}[0:6]",), validation_clip=f"{tmp_path / 'probe'}[6:9, 0:32, 0:48]"
    )
    run = prepare_run(tmp_path / "runs" / "run", replace(small, steps=4, data=data))
    assert work(run, lambda step, _: request_stop(run) if step.number == 2 else None) == "stopped"
    return tmp_path


def run_in(place):
    return Run(place / "runs" / "run")


def repaint(folder):
    path = folder / "002.png"
    with Image.open(path) as frame:
        frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)


def resume(place, *args):
    return main(["train", "--resume", "run", "--runs", str(place / "runs"), *args])


def test_a_run_is_resumed_with_the_same_data(place):
    data = run_in(place).record()["data"]
    assert data.keys() == {"data.clips[0]", "data.validation_clip"}
    assert (data["data.clips[0]"]["files"], data["data.clips[0]"]["part"]) == (10, "0:6")
    assert work(run_in(place)) == "finished"


@pytest.mark.parametrize(("folder", "setting"), [("clip", r"data\.clips\[0\]"), ("probe", r"data\.validation_clip")])
def test_other_data_under_the_same_name_raises(place, folder, setting):
    before = run_in(place).record()["data"]
    repaint(place / folder)
    with pytest.raises(DataError, match=rf"{setting}: .*want frames .*got frames .*--other-data"):
        work(run_in(place))
    assert run_in(place).status().state == "failed"
    assert resume(place) == 2
    assert run_in(place).status().step == 2
    assert run_in(place).record()["data"] == before
    assert resume(place, "--other-data") == 0
    after = run_in(place).record()
    assert after["earlier_data"] == [before]
    assert after["data"] != before
    assert run_in(place).status().state == "finished"


def test_moved_data_is_accepted_under_its_new_path_only(place, capsys):
    (place / "clip").rename(place / "moved")
    (place / "probe").rename(place / "held_out")
    assert resume(place) == 2
    named = [
        "--data.clips",
        f"{place / 'moved'}[0:6]",
        "--data.validation-clip",
        f"{place / 'held_out'}[6:9, 0:32, 0:48]",
    ]
    assert resume(place, *named[:1], f"{place / 'moved'}[0:7]", *named[2:]) == 2, "another part of it"
    assert "part [0:7]" in capsys.readouterr().err.replace("\n", "")
    assert resume(place, *named) == 0
    assert run_in(place).config().data.clips == (named[1],)
    assert run_in(place).status().state == "finished"


def test_other_settings_raise(place, capsys):
    assert resume(place, "--data.crop-size", "9", "--other-data") == 2
    assert "data.crop_size" in capsys.readouterr().err
    assert "earlier_data" not in run_in(place).record()


def test_a_run_of_an_earlier_version_is_resumed_with_a_warning(place, caplog):
    path = run_in(place).folder / "run.json"
    record = json.loads(path.read_text())
    del record["data"]
    path.write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING):
        assert work(run_in(place)) == "finished"
    assert "no checksums of its data" in caplog.text
    config = run_in(place).config()
    moved = replace(config, data=replace(config.data, validation_clip=str(place / "elsewhere")))
    with pytest.raises(DataError, match="cannot be checked"):
        rename_data(run_in(place), moved)


def test_data_of_a_running_run_cannot_be_changed(place):
    writer = RunWriter(run_in(place).folder)
    with pytest.raises(BusyError):
        rename_data(run_in(place), run_in(place).config())
    writer.close()


def test_other_data_needs_resume(capsys):
    assert main(["train", "--preset", "smoke", "--other-data"]) == 2
    assert "--resume" in capsys.readouterr().err
