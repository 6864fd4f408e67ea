import numpy as np
import pytest

from tests.footage import save
from tests.specimens import moving_clip
from tests.videos import write_video
from workbench.data.datasets.clip_set import ClipEntry, ClipSet, FrameFolder, InMemoryFrames, VideoFile, find_clips
from workbench.data.degradation.families import degrade
from workbench.errors import DataError, UnknownNameError

FRAMES = moving_clip(5, 18, 26)


def entry(source, frames=5, size=(26, 18), **settings):
    return ClipEntry(
        name="disc", frames=frames, size=size, scale=4, targets=tuple(range(frames)), source=source, **settings
    )


def test_every_source_gives_the_same_frames(tmp_path):
    for source in (FrameFolder(save(tmp_path / "disc", FRAMES)), InMemoryFrames(FRAMES)):
        clip = entry(source)
        assert np.array_equal(clip.high(), FRAMES)
        assert np.array_equal(clip.high(1, 3), FRAMES[1:3])
        assert np.array_equal(clip.high(3, 99), FRAMES[3:])
        assert np.array_equal(np.stack(list(clip.stream())), FRAMES)


def test_a_video_is_a_source(tmp_path):
    write_video(tmp_path / "disc.mp4", FRAMES, 25)
    clip = entry(VideoFile(tmp_path / "disc.mp4"))
    whole = clip.high()
    assert whole.shape == FRAMES.shape
    assert np.abs(whole.astype(int) - FRAMES).mean() < 15  # a lossy preview
    assert np.array_equal(clip.high(2, 4), whole[2:4])
    assert np.array_equal(np.stack(list(clip.stream())), whole)


def test_images_of_unexpected_names_raise(tmp_path):
    source = FrameFolder(save(tmp_path / "disc", FRAMES), ("0000", "0001", "0002", "0003", "0004"))
    assert np.array_equal(entry(source).high(), FRAMES)
    (tmp_path / "disc" / "0002.png").unlink()
    for read in (lambda: source.read(0, 1), lambda: list(source.stream())):
        with pytest.raises(DataError, match=r"disc: 0002 .*0000 to 0004"):
            read()
    save(tmp_path / "disc", FRAMES[:1], first=2)
    save(tmp_path / "disc", FRAMES[:1], first=7)
    with pytest.raises(DataError, match=r"disc: .*0007.*0000 to 0004"):
        source.read(0, 1)
    with pytest.raises(DataError, match="cannot be listed"):
        FrameFolder(tmp_path / "nothing").read(0, 1)


def test_a_clip_that_has_changed_raises(tmp_path):
    source = FrameFolder(save(tmp_path / "disc", FRAMES))
    with pytest.raises(DataError, match=r"disc: want 7 frames, got 5"):
        entry(source, frames=7).high()
    with pytest.raises(DataError, match="disc: want 7 frames, got 5"):
        list(entry(source, frames=7).stream())
    with pytest.raises(DataError, match="disc: want 4 frames, got 5"):
        list(entry(source, frames=4).stream())
    for read in (lambda clip: clip.high(2, 3), lambda clip: next(clip.stream())):
        with pytest.raises(DataError, match=r"disc: frame [02]: want 26x20,.* got 26x18"):
            read(entry(source, size=(26, 20)))


@pytest.mark.parametrize("part", [(5, None), (-1, 2), (3, 3), (3, 2)])
def test_frames_out_of_range_raise(part):
    with pytest.raises(DataError, match="disc: want frames within 0 to 5"):
        entry(InMemoryFrames(FRAMES)).high(*part)


def test_low_resolution_on_disk_is_read(tmp_path):
    low = degrade(FRAMES, "bd_duf", 4)
    clip = entry(InMemoryFrames(FRAMES), low_source=InMemoryFrames(low))
    assert clip.has_low
    assert clip.low_size == (6, 4)
    assert np.array_equal(clip.low(1, 3), low[1:3])
    with pytest.raises(DataError, match=r"frame 0: want 6x4,.* got 26x18"):
        entry(InMemoryFrames(FRAMES), low_source=InMemoryFrames(FRAMES)).low()
    assert not entry(InMemoryFrames(FRAMES)).has_low
    with pytest.raises(DataError, match=r"disc: .*got none"):
        entry(InMemoryFrames(FRAMES)).low()


def clips(*names, degradation=None, low=None):
    made = (
        ClipEntry(
            name=name,
            frames=5,
            size=(26, 18),
            scale=4,
            targets=(2,),
            source=InMemoryFrames(FRAMES),
            low_source=None if low is None else InMemoryFrames(low),
        )
        for name in names
    )
    return ClipSet(name="Discs", scale=4, degradation=degradation, clips=tuple(made))


def test_a_selection_keeps_the_order_of_the_set():
    whole = clips("calendar", "city", "walk")
    assert [clip.name for clip in whole.only(["walk", "calendar"])] == ["calendar", "walk"]
    assert len(whole.only(["city"])) == 1
    assert whole["city"].name == "city"
    with pytest.raises(UnknownNameError, match=r"'wlak'.*'walk'"):
        whole.only(["city", "wlak"])
    with pytest.raises(UnknownNameError, match="no clip of Discs 'wlak'"):
        whole["wlak"]


def test_errors_do_not_list_a_large_set():
    with pytest.raises(UnknownNameError, match=r"Discs 'x'.* 50, 0 to 49$"):
        clips(*map(str, range(50))).only(["x"])


@pytest.mark.parametrize("family", ["bi", "bd_duf"])
def test_low_resolution_is_computed_if_there_is_none(family):
    low, high = clips("disc").pair(clips("disc").clips[0], family, 1, 3)
    assert np.array_equal(high, FRAMES[1:3, :16, :24])
    assert np.array_equal(low, degrade(FRAMES[1:3], family, 4))


def test_low_resolution_is_read_if_there_is_one():
    held = clips("disc", degradation="bd_duf", low=degrade(FRAMES, "bd_duf", 4) // 2)
    low, high = held.pair(held["disc"], "bd_duf", 1, 3)
    assert np.array_equal(low, degrade(FRAMES, "bd_duf", 4)[1:3] // 2)
    assert high.shape == (2, 16, 24, 3)


def test_another_family_raises_with_the_reason():
    held = clips("disc", degradation="bd_duf", low=degrade(FRAMES, "bd_duf", 4))
    held.check_degradation("bd_duf")
    clips("disc").check_degradation("bi")
    with pytest.raises(DataError, match=r"Discs: .*bi, got bd_duf"):
        held.check_degradation("bi")
    with pytest.raises(DataError, match="bd_basicvsr, got bd_duf"):
        held.pair(held["disc"], "bd_basicvsr")


def test_clips_below_a_folder_are_found(tmp_path):
    for name in ("a/2", "a/10", "b", ".cache/c", "b/empty"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/2", "a/10", ".cache/c"):
        save(tmp_path / name, FRAMES[:1])
    (tmp_path / "b" / "holiday.MP4").touch()
    (tmp_path / "b" / "notes.txt").touch()
    (tmp_path / "b" / "back").symlink_to(tmp_path)  # a circle
    found = find_clips(tmp_path)
    assert list(found) == ["a/2", "a/10", "b/holiday"]
    assert found["a/10"] == FrameFolder(tmp_path / "a" / "10")
    assert found["b/holiday"] == VideoFile(tmp_path / "b" / "holiday.MP4")
    assert find_clips(tmp_path / "a" / "2") == {"": FrameFolder(tmp_path / "a" / "2")}
    assert find_clips(tmp_path / "b" / "holiday.MP4") == {"": VideoFile(tmp_path / "b" / "holiday.MP4")}


def test_a_folder_without_clips_raises(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        find_clips(tmp_path / "nothing")
    with pytest.raises(DataError, match="want images"):
        find_clips(tmp_path)
    save(tmp_path / "a", FRAMES[:1])
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="have the same name a"):
        find_clips(tmp_path)
