import shutil

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.footage import save
from tests.specimens import moving_clip
from tests.videos import encode, numbered, write_video
from workbench.cli import main
from workbench.data.degradation import write_lr as write_module
from workbench.data.degradation.families import degrade
from workbench.data.degradation.identify import read_info
from workbench.data.degradation.write_lr import WriteSummary, write_lr
from workbench.data.video.frame_folder import image_files, read_frames
from workbench.data.video.read import read_video
from workbench.errors import BusyError, ConfigError, DataError, UnknownNameError, VideoError

FRAMES = moving_clip(5, 25, 34)


def everything(folder):
    """Every file below a folder with its content and when it was written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def footage(tmp_path):
    """Three clips, one of them two folders down."""
    save(tmp_path / "GT" / "a", FRAMES)
    save(tmp_path / "GT" / "b", FRAMES[::-1], names="im{}.bmp")
    save(tmp_path / "GT" / "deep" / "c", FRAMES[:2])
    return tmp_path / "GT"


@pytest.mark.parametrize(("family", "scale"), [("bi", 4), ("bi", 3), ("bd_basicvsr", 4), ("bd_duf", 2)])
def test_folders_have_the_same_names_and_degraded_images(tmp_path, footage, family, scale):
    assert write_lr(footage, tmp_path / "low", family=family, scale=scale) == WriteSummary(clips=3, frames=12, kept=0)
    for name, frames in (("a", FRAMES), ("b", FRAMES[::-1]), ("deep/c", FRAMES[:2])):
        assert np.array_equal(read_frames(tmp_path / "low" / name), degrade(frames, family, scale))
    assert [file.name for file in image_files(tmp_path / "low" / "b")] == [f"im{n}.png" for n in range(5)]
    note = read_info(tmp_path / "low")
    assert note is not None
    assert (note.family, note.scale, note.source) == (family, scale, "GT")
    assert sorted(path.name for path in (tmp_path / "low").iterdir()) == ["a", "b", "deep", "degradation.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["GT", "low"]


def test_one_clip_is_degraded(tmp_path, footage):
    assert write_lr(footage / "a", tmp_path / "low" / "a", family="bi", scale=4) == WriteSummary(
        clips=1, frames=5, kept=0
    )
    assert np.array_equal(read_frames(tmp_path / "low" / "a"), degrade(FRAMES, "bi", 4))
    assert read_info(tmp_path / "low" / "a") is not None
    assert write_lr(footage / "a", tmp_path / "low" / "a", family="bi", scale=4) == WriteSummary(
        clips=0, frames=0, kept=1
    )


def test_videos_are_degraded(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "disc.mp4", FRAMES, 25)
    write_lr(tmp_path / "videos", tmp_path / "low", family="bd_duf", scale=4)
    decoded = read_video(tmp_path / "videos" / "disc.mp4").frames
    assert np.array_equal(read_frames(tmp_path / "low" / "disc"), degrade(decoded, "bd_duf", 4))
    assert image_files(tmp_path / "low" / "disc")[4].name == "00000004.png"
    assert write_lr(tmp_path / "videos", tmp_path / "low", family="bd_duf", scale=4).kept == 1


def test_frame_rate_and_times_of_videos_are_kept(tmp_path):
    """Evenly at 24 frames a second in ticks of a millisecond; and at 20, with the third frame held for 0.2 s."""
    even, uneven = [round(1000 * n / 24) for n in range(5)], [0, 50, 100, 300, 350]
    for name, rate, times in (("even", 24, even), ("uneven", 20, uneven)):
        (tmp_path / "videos" / "deep").mkdir(parents=True, exist_ok=True)
        encode(tmp_path / "videos" / "deep" / f"{name}.mkv", numbered(5), rate=rate, times=times)
    save(tmp_path / "videos" / "images", FRAMES)
    write_lr(tmp_path / "videos", tmp_path / "low", family="bi", scale=4)
    note = read_info(tmp_path / "low")
    assert note is not None
    assert sorted(note.timing) == ["deep/even", "deep/uneven"]
    assert note.timing["deep/even"].times_seconds is None
    assert note.timing["deep/even"].fps == pytest.approx(24, rel=1e-3)
    assert note.timing["deep/uneven"].times_seconds == (0.0, 0.05, 0.1, 0.3, 0.35)
    before = everything(tmp_path / "low")["degradation.json"][0]
    write_lr(tmp_path / "videos", tmp_path / "low", family="bi", scale=4)
    assert everything(tmp_path / "low")["degradation.json"][0] == before


def test_the_times_of_a_single_video_are_kept(tmp_path):
    encode(tmp_path / "one.mkv", numbered(3), times=[0, 40, 200])
    write_lr(tmp_path / "one.mkv", tmp_path / "low", family="bi", scale=4)
    note = read_info(tmp_path / "low")
    assert note is not None
    assert note.timing["."].times_seconds == (0.0, 0.04, 0.2)


def test_a_second_run_changes_nothing(tmp_path, footage):
    write_lr(footage, tmp_path / "low", family="bi", scale=4)
    before = everything(tmp_path / "low")
    assert write_lr(footage, tmp_path / "low", family="bi", scale=4) == WriteSummary(clips=0, frames=0, kept=3)
    after = everything(tmp_path / "low")
    assert {name: before[name] for name in before if name != "degradation.json"} == {
        name: after[name] for name in after if name != "degradation.json"
    }


def test_a_killed_and_repeated_job_writes_equal_files(tmp_path, footage):
    write_lr(footage, tmp_path / "whole", family="bi", scale=4)

    class Killed(BaseException):
        pass

    def kill(stage):
        if stage.clip == "b" and stage.frames:
            raise Killed

    with pytest.raises(Killed):
        write_lr(footage, tmp_path / "low", family="bi", scale=4, progress=kill)
    assert sorted(path.name for path in (tmp_path / "low").iterdir()) == ["a", "degradation.json"]
    left = tmp_path / "low" / ".b.partial"  # what a power cut leaves behind
    save(left, FRAMES[:1])
    assert write_lr(footage, tmp_path / "low", family="bi", scale=4) == WriteSummary(clips=2, frames=7, kept=1)
    assert {name: content for name, (content, _) in everything(tmp_path / "low").items()} == {
        name: content for name, (content, _) in everything(tmp_path / "whole").items()
    }


def test_progress_has_every_clip_and_its_frames(tmp_path, footage):
    stages = []
    write_lr(footage, tmp_path / "low", family="bi", scale=4, progress=stages.append)
    assert [(stage.clip, stage.frames) for stage in stages[:4]] == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
    assert [stage.done for stage in stages] == sorted(stage.done for stage in stages)
    assert (stages[-1].done, stages[-1].clips) == (3, 3)


def test_incomplete_clips_of_an_earlier_job_raise(tmp_path, footage):
    write_lr(footage, tmp_path / "low", family="bi", scale=4)
    (tmp_path / "low" / "a" / "0002.png").unlink()
    with pytest.raises(DataError, match=r"low/a: .*5 images.* got 4"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)
    Image.new("RGB", (9, 6)).save(tmp_path / "low" / "a" / "0002.png")
    with pytest.raises(DataError, match=r"0002.png .*9x6.*8x6"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)
    (tmp_path / "low" / "a" / "0002.png").write_bytes(b"")
    with pytest.raises(VideoError, match=r"0002\.png"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)


def test_a_target_with_other_contents_raises(tmp_path, footage):
    write_lr(footage, tmp_path / "low", family="bi", scale=4)
    with pytest.raises(DataError, match=r"low: want bd_duf x4, got .*bi x4"):
        write_lr(footage, tmp_path / "low", family="bd_duf", scale=4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match=r"mine: .*files"):
        write_lr(footage, tmp_path / "mine", family="bi", scale=4)
    with pytest.raises(DataError, match=r"thesis\.txt: .*got a file"):
        write_lr(footage, tmp_path / "mine" / "thesis.txt", family="bi", scale=4)
    for inside in (footage, footage / "low"):
        with pytest.raises(DataError, match="want a folder outside"):
            write_lr(footage, inside, family="bi", scale=4)
    assert sorted(path.name for path in footage.iterdir()) == ["a", "b", "deep"]


def test_invalid_arguments_raise(tmp_path, footage):
    with pytest.raises(DataError, match="no such file or folder"):
        write_lr(tmp_path / "nothing", tmp_path / "low", family="bi", scale=4)
    with pytest.raises(UnknownNameError, match="no degradation 'bl'"):
        write_lr(footage, tmp_path / "low", family="bl", scale=4)
    with pytest.raises(ConfigError, match=r"x4 .*bd_tecogan .* got x3"):
        write_lr(footage, tmp_path / "low", family="bd_tecogan", scale=3)
    assert not (tmp_path / "low").exists()


def test_invalid_images_leave_no_partial_clip(tmp_path, footage):
    Image.new("RGB", (34, 26)).save(footage / "b" / "im3.bmp")
    with pytest.raises(VideoError, match=r"b/im3\.bmp: 34x26.* 34x25"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)
    assert sorted(path.name for path in (tmp_path / "low").iterdir()) == ["a", "degradation.json"]
    shutil.copy(footage / "a" / "0000.png", footage / "a" / "0000.bmp")
    with pytest.raises(VideoError, match=r"0000\.(bmp|png) and 0000\.(bmp|png) .*0000"):
        write_lr(footage / "a", tmp_path / "other", family="bi", scale=4)
    assert not (tmp_path / "other").exists()


def test_a_transparent_image_raises_before_anything_is_written(tmp_path, footage):
    Image.new("RGBA", (34, 25)).save(footage / "deep" / "c" / "0001.png")
    with pytest.raises(VideoError, match=r"c/0001\.png: 100.0%"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)
    assert not (tmp_path / "low").exists()


def test_a_clip_that_is_too_small_raises(tmp_path):
    save(tmp_path / "GT", FRAMES[:, :3])
    with pytest.raises(ConfigError, match=r"at most 3 .*34x3, got 4"):
        write_lr(tmp_path / "GT", tmp_path / "low", family="bi", scale=4)
    assert [path.name for path in tmp_path.iterdir()] == ["GT"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_full_or_read_only_disk_raises(tmp_path, footage, monkeypatch, error):
    real = Image.Image.save

    def fail(image, path, *args):
        if path.name == "im3.png":
            raise error
        real(image, path, *args)

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(DataError, match=f"low: .*{error.strerror}"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)
    assert sorted(path.name for path in (tmp_path / "low").iterdir()) == ["a", "degradation.json"]
    monkeypatch.undo()
    assert write_lr(footage, tmp_path / "low", family="bi", scale=4).kept == 1


def test_a_folder_without_write_permission_raises(tmp_path, footage):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="low: cannot be written"):
        write_lr(footage, tmp_path / "file" / "low", family="bi", scale=4)


def test_a_second_job_at_the_same_time_raises(tmp_path, footage):
    with FileLock(tmp_path / ".low.lock"), pytest.raises(BusyError, match="low: another job"):
        write_lr(footage, tmp_path / "low", family="bi", scale=4)


def test_the_command(tmp_path, footage, capsys):
    assert main(["degrade", str(footage), str(tmp_path / "low"), "--family", "bd_duf"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'low'}: bd_duf x4, clips written: 3 (12 frames), kept: 0\n"
    assert main(["degrade", str(footage), str(tmp_path / "low"), "--family", "bd_dfu"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "did you mean 'bd_duf'" in said.err


def test_frames_are_degraded_one_at_a_time(tmp_path, monkeypatch):
    """An hour of video must not be held."""
    blocks = []

    def watch(block, family, scale):
        blocks.append(len(block))
        return degrade(block, family, scale)

    monkeypatch.setattr(write_module, "degrade", watch)
    write_lr(save(tmp_path / "a", FRAMES), tmp_path / "low", family="bi", scale=4)
    assert blocks == [1] * 5
