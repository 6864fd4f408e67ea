"""Settings that cannot work raise before a run folder exists."""

from dataclasses import replace

import pytest

from workbench.config import Data, Network
from workbench.errors import ConfigError, DataError, FolderError, UnknownNameError, VideoError, WeightsError
from workbench.training.worker import check, prepare_run


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"student": Network(name="vespnc")}, UnknownNameError, "no network 'vespnc'; did you mean 'vespcn'"),
        ({"student": Network(name="bicubic")}, ConfigError, "student.name: bicubic"),
        ({"student": Network(name="vespcn_paper")}, ConfigError, "vespcn_paper has no high-resolution features"),
        ({"student": Network(name="vespcn", weights="TEACHER")}, WeightsError, "got edvr_tiny"),
        ({"teacher": Network(name="edvr_tiny", weights="no.safetensors")}, WeightsError, "no such file"),
        ({"teacher": Network(name="bicubic", weights="x")}, WeightsError, "no such file"),
        ({"student": Network(name="vespcn", weights="pretrained:vespcn")}, UnknownNameError, "no pretrained weights"),
        ({"data": Data(clips=("bigbuckbuny",))}, UnknownNameError, "did you mean 'bigbuckbunny'"),
        ({"data": Data(validation_clip="nowhere.mp4")}, VideoError, "nowhere.mp4"),
    ],
    ids=lambda value: "",
)
def test_settings_that_cannot_work_raise_before_a_folder_exists(
    small, tmp_path, teacher_weights, change, error, message
):
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
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_vespcn_paper_can_be_trained_without_a_teacher(small):
    check(replace(small, student=Network(name="vespcn_paper"), teacher=Network()))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"crop_size": 21}, "want 21 or more low-resolution pixels .* got width 20 and height 16;"),
        ({"num_frames": 7}, "want 7 or more frames, got 6;"),
    ],
)
def test_crops_larger_than_the_clip_raise(small, tmp_path, data, fault):
    config = replace(small, data=replace(small.data, **data))
    with pytest.raises(DataError, match=rf"waves\[0:6\]: {fault}"):
        prepare_run(tmp_path / "demo", config)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", ["a b", "..", ".hidden"])
def test_run_names_that_are_no_folder_names_raise(small, tmp_path, name):
    with pytest.raises(FolderError, match="want 1 to 64 letters"):
        prepare_run(tmp_path / name, small)
    assert list(tmp_path.iterdir()) == []
