"""The scene folder: what is written is read, whole or not at all."""

import errno
import json
import os
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from workbench import scenes
from workbench.data.video.read import read_video
from workbench.errors import FolderError, ShapeError
from workbench.scenes import (
    Method,
    Overlay,
    SceneWriter,
    check_name,
    list_scenes,
    merge_scenes,
    read_scene,
    write_scene,
)
from workbench.views.serving import write_clip

DICE = np.random.default_rng(0)
FRAMES = DICE.integers(0, 256, (3, 10, 14, 3), np.uint8)
LOW = DICE.integers(0, 256, (3, 5, 7, 3), np.uint8)
MAPS = DICE.normal(size=(3, 5, 7)).astype(np.float32)
CELLS = DICE.normal(size=(3, 2, 5, 7)).astype(np.float32)


def fill(writer, *, method="student", name="demo"):
    writer.add_method(Method(key=method, label="Student", note="step 3"), FRAMES)
    writer.add_overlay(Overlay(kind="attention", label="Looks", method=method, vmin=-1.0, vmax=3.0), MAPS)
    writer.add_curve("psnr", "PSNR", "dB", "higher", method, np.array([30.123456789, np.inf, np.nan]))
    writer.finish(name=name, title="A demo", fps=25.0, protocol={"crop_border": 0}, provenance={"seed": 1})


def fail(writer):
    fill(writer, method="other")
    raise ZeroDivisionError


@pytest.fixture
def scene(tmp_path):
    with write_scene(tmp_path / "demo") as writer:
        writer.add_method(Method(key="low", label="Low"), LOW)
        cells = Overlay(kind="memory", label="Cells", method="student", vmin=-2.0, vmax=2.0, diverging=True)
        writer.add_overlay(cells, CELLS)
        fill(writer)
    return read_scene(tmp_path / "demo")


def test_a_scene_is_read_as_it_was_written(scene):
    assert (scene.name, scene.title, scene.fps) == ("demo", "A demo", 25.0)
    assert (scene.frames, scene.height, scene.width) == (3, 10, 14), "the size is that of the output, not of low"
    assert [m.key for m in scene.methods] == ["low", "student"]
    assert scene.method("student").note == "step 3"
    assert scene.protocol == {"crop_border": 0}
    assert scene.provenance == {"seed": 1}


def test_the_license_of_a_scene_of_an_earlier_version_is_read(scene):
    path = scene.folder / "scene.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"provenance": {"licence": "CC0"}}))
    assert read_scene(scene.folder).provenance == {"license": "CC0"}


def test_frames_are_stored_losslessly(scene):
    assert np.array_equal(scene.clip("student"), FRAMES)
    assert np.array_equal(scene.clip("low"), LOW)
    assert np.array_equal(scene.frame("student", 2), FRAMES[2])
    assert scene.frame_path("student", 2) == scene.folder / "frames" / "student" / "00002.webp"


@pytest.mark.parametrize("compression", [0, 4])
def test_frames_are_lossless_at_every_compression(compression, tmp_path):
    with write_scene(tmp_path / "s") as writer:
        writer.add_method(Method(key="high", label="High"), FRAMES, compression=compression)
        writer.finish(name="s", title="s", fps=1.0, protocol={}, provenance={})
    assert np.array_equal(read_scene(tmp_path / "s").clip("high"), FRAMES)


def test_gray_levels_of_an_overlay_are_its_values(scene):
    """value = low + gray / 255 * (high - low), to half a level; beyond the ends it is the end."""
    overlay = next(o for o in scene.overlays if o.kind == "attention")
    for index in range(3):
        gray = np.asarray(Image.open(scene.overlay_path(overlay, index)).convert("L"), float)
        wanted = MAPS[index].clip(-1, 3)
        assert np.abs(-1 + gray / 255 * 4 - wanted).max() <= 4 / 255 / 2 + 1e-6


def test_channels_are_stacked_from_top_to_bottom(scene):
    overlay = next(o for o in scene.overlays if o.kind == "memory")
    assert (overlay.channels, overlay.diverging) == (2, True)
    gray = np.asarray(Image.open(scene.overlay_path(overlay, 1)).convert("L"), float)
    assert gray.shape == (10, 7)
    value = -2 + gray / 255 * 4
    assert np.abs(value[:5] - CELLS[1, 0].clip(-2, 2)).max() < 0.01
    assert np.abs(value[5:] - CELLS[1, 1].clip(-2, 2)).max() < 0.01


def test_raw_arrays_have_half_precision_without_clipping(scene):
    for overlay, values in zip(scene.overlays, (CELLS, MAPS), strict=True):
        raw = scene.array(overlay)
        assert raw.dtype == np.float16
        assert np.array_equal(raw, values.astype(np.float16))


def test_values_that_are_not_finite_are_drawn_and_kept(tmp_path):
    values = np.array([[[np.nan, 0.0, np.inf, 1.0]]])
    with write_scene(tmp_path / "s") as writer:
        writer.add_method(Method(key="high", label="High"), FRAMES[:1])
        writer.add_overlay(Overlay(kind="map", label="Map", method="high", vmin=0.0, vmax=1.0), values)
        writer.finish(name="s", title="s", fps=1.0, protocol={}, provenance={})
    scene = read_scene(tmp_path / "s")
    assert np.isnan(scene.array(scene.overlays[0])[0, 0, 0])
    assert np.asarray(Image.open(scene.overlay_path(scene.overlays[0], 0)).convert("L")).tolist() == [[0, 0, 255, 255]]


def test_a_curve_has_six_digits_and_null_for_missing_values(scene):
    (curve,) = scene.curves
    assert curve.series == {"student": [30.1235, None, None]}
    assert (curve.unit, curve.better) == ("dB", "higher")


def test_curves_of_several_methods_share_one_key(tmp_path):
    with write_scene(tmp_path / "s") as writer:
        writer.add_curve("psnr", "PSNR", "dB", "higher", "a", np.array([1.0, 2.0]))
        writer.add_curve("psnr", "PSNR", "dB", "higher", "b", np.array([3.0, 4.0]))
        fill(writer)
    (curve,) = read_scene(tmp_path / "s").curves
    assert {key: curve.series[key] for key in "ab"} == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


def test_json_has_no_nan(scene):
    json.loads((scene.folder / "scene.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_the_error_for_an_unknown_method_has_all_methods(scene):
    with pytest.raises(FolderError, match=r"demo: .*'teacher'.* low, student"):
        scene.method("teacher")


# -- whole or not at all --------------------------------------------------------------------------------------------
def test_an_error_leaves_no_scene(tmp_path):
    with pytest.raises(ZeroDivisionError), write_scene(tmp_path / "demo") as writer:
        fail(writer)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_scene(tmp_path, monkeypatch):
    def full(*_args, **_settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"), write_scene(tmp_path / "demo") as writer:
        fill(writer)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_scene_leaves_nothing(tmp_path):
    with pytest.raises(FolderError, match=r"demo: .*not finished"), write_scene(tmp_path / "demo") as writer:
        writer.add_method(Method(key="high", label="High"), FRAMES)
    assert list(tmp_path.iterdir()) == []


def test_a_scene_without_frames_raises(tmp_path):
    with pytest.raises(FolderError, match="no method was added"), write_scene(tmp_path / "demo") as writer:
        writer.finish(name="demo", title="", fps=1.0, protocol={}, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_scene_is_not_overwritten_without_request(scene):
    with pytest.raises(FolderError, match="exists already"), write_scene(scene.folder):
        pass
    assert np.array_equal(read_scene(scene.folder).clip("student"), FRAMES)


def test_a_scene_is_replaced_completely_on_request(scene):
    with write_scene(scene.folder, replace=True) as writer:
        fill(writer, method="other", name="demo")
    again = read_scene(scene.folder)
    assert [m.key for m in again.methods] == ["other"]
    assert not (scene.folder / "frames" / "student").exists()
    assert [p.name for p in scene.folder.parent.iterdir()] == ["demo"]


def test_an_error_while_replacing_leaves_the_old_scene(scene):
    with pytest.raises(ZeroDivisionError), write_scene(scene.folder, replace=True) as writer:
        fail(writer)
    assert np.array_equal(read_scene(scene.folder).clip("student"), FRAMES)
    assert [p.name for p in scene.folder.parent.iterdir()] == ["demo"]


def test_a_scene_appears_when_it_is_complete(tmp_path):
    with write_scene(tmp_path / "demo") as writer:
        fill(writer)
        assert list_scenes(tmp_path) == []
        assert not (tmp_path / "demo").exists()
    assert list_scenes(tmp_path) == ["demo"]


def test_scene_json_is_written_last(tmp_path, monkeypatch):
    """Whoever sees scene.json sees everything that it names."""
    written = []
    monkeypatch.setattr(scenes, "write_atomic", lambda path, _content: written.append(path.name))
    writer = SceneWriter(tmp_path)
    fill(writer)
    writer.close()
    assert written == ["arrays.npz", "scene.json"]


# -- bad input ------------------------------------------------------------------------------------------------------
def test_partial_folders_raise_and_are_not_listed(scene):
    root = scene.folder.parent
    (scene.folder / "scene.json").rename(root / "kept.json")
    (root / ".hidden.123.partial").mkdir()
    ((root / ".hidden.123.partial") / "scene.json").write_text("{}")
    assert list_scenes(root) == []
    with pytest.raises(FolderError, match=r"demo: no scene\.json here"):
        read_scene(scene.folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record.update(format=99), "format: want 1 or 2, got 99; update the workbench"),
        (lambda record: record.pop("format"), "not a readable scene"),
        (lambda record: record.pop("methods"), "not a readable scene"),
        (lambda record: record.update(methods=3), "not a readable scene"),
        (lambda record: record["methods"][0].update(color="red"), "not a readable scene"),
        (lambda record: record["methods"][0].update(key="../../etc"), "scene entry '../../etc'"),
        (lambda record: record["overlays"][0].update(kind="../up"), "scene entry '../up'"),
        (lambda record: record["overlays"][0].update(method="/etc"), "scene entry '/etc'"),
    ],
)
def test_another_format_raises(scene, change, said):
    record = json.loads((scene.folder / "scene.json").read_text())
    change(record)
    (scene.folder / "scene.json").write_text(json.dumps(record))
    with pytest.raises(FolderError) as caught:
        read_scene(scene.folder)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_an_invalid_scene_json_raises(scene, content):
    (scene.folder / "scene.json").write_bytes(content)
    with pytest.raises(FolderError, match="not a readable scene"):
        read_scene(scene.folder)


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "a\\b", "", ".hidden", "-flag", "x" * 65, "a b", "ends.", "a\n", ".."]
)
def test_invalid_scene_names_raise(name, tmp_path):
    with pytest.raises(FolderError, match="want 1 to 64 letters"):
        check_name(name)
    with write_scene(tmp_path / "demo") as writer:
        with pytest.raises(FolderError, match="method"):
            writer.add_method(Method(key=name, label=""), FRAMES)
        with pytest.raises(FolderError, match="overlay"):
            writer.add_overlay(Overlay(kind=name, label="", method="student", vmin=0.0, vmax=1.0), MAPS)
        with pytest.raises(FolderError, match="method"):
            writer.add_overlay(Overlay(kind="map", label="", method=name, vmin=0.0, vmax=1.0), MAPS)
        fill(writer)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo"]


@pytest.mark.parametrize("name", ["a", "edvr_s-2", "run.2024", "7", "x" * 64])
def test_valid_scene_names(name):
    assert check_name(name) == name


def test_frames_of_another_type_or_size_raise(tmp_path):
    with write_scene(tmp_path / "demo") as writer:
        for wrong in (FRAMES.astype(np.float32), FRAMES[0], FRAMES[..., :1]):
            with pytest.raises(ShapeError, match="frames of wrong: want uint8"):
                writer.add_method(Method(key="wrong", label=""), wrong)
        fill(writer)
        for wrong in (FRAMES[:2], FRAMES[:, :8]):
            with pytest.raises(ShapeError, match=r"frames of wrong: want \(3, 10, 14\)"):
                writer.add_method(Method(key="wrong", label=""), wrong)


# -- merging --------------------------------------------------------------------------------------------------------
def test_two_scenes_of_one_clip_are_merged(scene, tmp_path):
    with write_scene(tmp_path / "later") as writer:
        writer.add_method(Method(key="teacher", label="Teacher"), 255 - FRAMES)
        writer.add_overlay(Overlay(kind="attention", label="Looks", method="teacher", vmin=-1.0, vmax=3.0), MAPS + 1)
        writer.add_curve("psnr", "PSNR", "dB", "higher", "teacher", np.array([1.0, 2.0, 3.0]))
        writer.finish(name="later", title="Later", fps=25.0, protocol={}, provenance={"step": 7})
    both = merge_scenes("both", "Both", scene, read_scene(tmp_path / "later"))
    assert [m.key for m in both.methods] == ["low", "student", "teacher"]
    assert np.array_equal(both.clip("student"), FRAMES)
    assert np.array_equal(both.clip("teacher"), 255 - FRAMES)
    assert both.curves[0].series == {"student": [30.1235, None, None], "teacher": [1.0, 2.0, 3.0]}
    assert np.array_equal(both.array(both.overlays[-1]), (MAPS + 1).astype(np.float16))
    assert np.array_equal(both.array(both.overlays[0]), CELLS.astype(np.float16))
    assert both.provenance == {"seed": 1, "step": 7}
    assert both.overlay_path(both.overlays[-1], 0).is_file()
    again = merge_scenes("again", "Again", both)
    assert np.array_equal(again.clip("teacher"), 255 - FRAMES), "a merged scene can be merged"


def test_merging_scenes_of_different_clips_raises(scene, tmp_path):
    with write_scene(tmp_path / "shorter") as writer:
        writer.add_method(Method(key="teacher", label="Teacher"), FRAMES[:2])
        writer.finish(name="shorter", title="", fps=25.0, protocol={}, provenance={})
    with pytest.raises(FolderError, match="shorter and demo"):
        merge_scenes("both", "Both", scene, read_scene(tmp_path / "shorter"))


def test_a_missing_folder_has_no_scenes(tmp_path):
    assert list_scenes(tmp_path / "nowhere") == []


def test_frame_times_are_kept(tmp_path):
    times = (0.0, 0.04, 0.5, 0.9)
    frames = np.zeros((3, 4, 6, 3), np.uint8)
    with write_scene(tmp_path / "a") as writer:
        writer.add_method(Method(key="high", label="High"), frames)
        writer.finish(name="a", title="a", fps=3.3, protocol={}, provenance={}, times_seconds=times,
                      pixel_aspect=Fraction(32, 27))  # fmt: skip
    scene = read_scene(tmp_path / "a")
    assert (scene.times_seconds, scene.pixel_aspect) == (times, Fraction(32, 27))
    assert scene.timing(1) == pytest.approx((0.04, 0.46))
    write_clip(scene, ["high"], tmp_path / "clip.webm")
    video = read_video(tmp_path / "clip.webm")
    assert video.times_seconds == pytest.approx(times[:3], abs=0.001)
    assert video.end_seconds == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("times", [[0.0, 1.0], [0.0, 0.5, 0.4, 1.0], [-1.0, 0.0, 1.0, 2.0], ["a", 1, 2, 3]])
def test_invalid_times_raise(tmp_path, times):
    with write_scene(tmp_path / "a") as writer:
        writer.add_method(Method(key="high", label="High"), np.zeros((3, 4, 6, 3), np.uint8))
        writer.finish(name="a", title="a", fps=25, protocol={}, provenance={}, times_seconds=times)
    with pytest.raises(FolderError, match="not a readable scene"):
        read_scene(tmp_path / "a")
