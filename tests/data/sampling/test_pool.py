"""Prepared clips of still images: the same bytes however often the job stops, and exact flow of their crops."""

import json

import numpy as np
import pytest
from PIL import Image

from workbench.cli import main
from workbench.data.sampling import pool as module
from workbench.data.sampling.checksums import checksum_stills
from workbench.data.sampling.motion import MotionSampler, MotionSettings
from workbench.data.sampling.pairs import open_pairs
from workbench.data.sampling.pool import PoolSampler, PoolSettings, is_pool, prepare_pool, read_pool
from workbench.data.sampling.stills import open_stills
from workbench.data.sampling.true_flow import hidden_pixels
from workbench.errors import BusyError, ConfigError, DataError

SETTINGS = PoolSettings(sequences=7, crop_size=12, num_frames=4)


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stills")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (200, 220, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def pool(stills, tmp_path_factory):
    out = tmp_path_factory.mktemp("pool") / "out"
    prepare_pool(stills, out, SETTINGS)
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.*"))}


def test_a_pool_contains_the_clips_of_the_images(pool, stills):
    manifest = read_pool(pool)
    assert manifest.settings == SETTINGS
    assert manifest.images.keys() == {"0.png", "1.png"}
    assert {path.name for path in pool.iterdir()} == manifest.files.keys() | {"manifest.json"}
    motion = SETTINGS.motion
    sampler = MotionSampler(open_stills(stills, min_side=motion.min_still_side), motion, seed=0)
    for number in (0, 6):
        clip = sampler.clip(number, 0)
        for name, part in {"low": clip.low, "high": clip.high, **clip.flow._asdict()}.items():
            assert np.array_equal(np.load(pool / f"{name}.npy")[number], part)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_stopped_and_continued_pool_equals_an_uninterrupted_one(pool, stills, tmp_path, monkeypatch, at):
    monkeypatch.setattr(module, "CLIPS_BETWEEN_FLUSHES", 2)

    def stop(done):
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_pool(stills, tmp_path / "out", SETTINGS, observe=stop)
    with pytest.raises(DataError, match="incomplete"):
        is_pool(tmp_path / "out")
    done = []
    prepare_pool(stills, tmp_path / "out", SETTINGS, observe=done.append)
    assert done[0] == at - at % 2
    assert content(tmp_path / "out") == content(pool)


def test_a_pool_killed_while_moving_files_is_completed(pool, stills, tmp_path, monkeypatch):
    def fail(work):
        (work / "high.npy").rename(work.parent / "high.npy")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_sheet", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare_pool(stills, tmp_path / "out", SETTINGS)
    prepare_pool(stills, tmp_path / "out", SETTINGS)
    assert content(tmp_path / "out") == content(pool)


def test_a_finished_pool_does_not_change_and_a_damaged_one_is_repaired(pool, stills):
    before = content(pool)
    assert prepare_pool(stills, pool, SETTINGS, observe=lambda _: pytest.fail("it renders")) == read_pool(pool)
    with (pool / "low.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    prepare_pool(stills, pool, SETTINGS)
    assert content(pool) == before


def test_a_manifest_of_format_1_is_read(pool, tmp_path):
    saved = json.loads((pool / "manifest.json").read_text()) | {"format": 1}
    settings = saved["settings"]
    settings["crop"], settings["frames"] = settings.pop("crop_size"), settings.pop("num_frames")
    (tmp_path / "manifest.json").write_text(json.dumps(saved))
    assert read_pool(tmp_path) == read_pool(pool)


def test_other_settings_images_and_contents_raise(pool, stills, tmp_path):
    with pytest.raises(DataError, match="sequences 7, now 8"):
        prepare_pool(stills, pool, PoolSettings(sequences=8, crop_size=12, num_frames=4))
    (tmp_path / "other").mkdir()
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / "other" / "0.png")
    with pytest.raises(DataError, match="other images"):
        prepare_pool(tmp_path / "other", pool, SETTINGS)
    with pytest.raises(DataError, match="files"):
        prepare_pool(stills, tmp_path / "other", SETTINGS)
    with pytest.raises(DataError, match="of free space"):
        prepare_pool(stills, tmp_path / "huge", PoolSettings(sequences=10**9, crop_size=12, num_frames=4))
    assert not (tmp_path / "huge").exists()


def test_a_second_job_at_the_same_time_raises(stills, tmp_path):
    def again(_done):
        with pytest.raises(BusyError):
            prepare_pool(stills, tmp_path / "out", SETTINGS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_pool(stills, tmp_path / "out", SETTINGS, observe=again)


def test_crops_are_those_of_the_prepared_clips(pool):
    """Every crop is a part of a clip; its correspondences end at its own border."""
    wanted = MotionSettings(crop_size=8, num_frames=3)
    sampler = PoolSampler(pool, wanted, seed=3)
    low, flow, hidden = (np.load(pool / f"{name}.npy") for name in ("low", "to_next", "hidden_next"))
    places = [(n, t, y, x) for n in range(7) for t in range(2) for y in range(5) for x in range(5)]
    seen = set()
    for index in range(30):
        clip = sampler.clip(5, index)
        assert clip.high.shape == (3, 32, 32, 3)
        (place,) = [
            (n, t, y, x) for n, t, y, x in places if np.array_equal(low[n, t : t + 3, y : y + 8, x : x + 8], clip.low)
        ]
        n, t, y, x = place
        seen.add(place)
        assert np.array_equal(clip.flow.to_next, flow[n, t : t + 2, :, y : y + 8, x : x + 8])
        before = hidden[n, t : t + 2, y : y + 8, x : x + 8]
        assert (clip.flow.hidden_next >= before).all()
        outside = np.stack([hidden_pixels(field, None, None) for field in clip.flow.to_next])
        assert np.array_equal(clip.flow.hidden_next, before | outside)
    assert len(seen) > 20
    again = PoolSampler(pool, wanted, seed=3).clip(5, 4)
    assert np.array_equal(again.high, sampler.clip(5, 4).high)


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"crop_size": 13}, r"data\.crop_size: .*12.* got 13"),
        ({"num_frames": 5}, r"data\.num_frames: .*4.* got 5"),
        ({"scale": 2}, r"data\.scale: .* with 4, got 2"),
        ({"degradation": "bd_duf"}, r"data\.degradation: .* with bi, got bd_duf"),
    ],
)
def test_a_pool_that_does_not_fit_raises(pool, settings, pattern):
    with pytest.raises(DataError, match=pattern):
        PoolSampler(pool, MotionSettings(**{"crop_size": 8, "num_frames": 3, **settings}))


def test_a_damaged_pool_raises(pool, tmp_path):
    for name, value in content(pool).items():
        (tmp_path / name).write_bytes(value)
    (tmp_path / "high.npy").write_bytes(b"short")
    with pytest.raises(DataError, match=r"high\.npy"):
        PoolSampler(tmp_path, MotionSettings(crop_size=8, num_frames=3))
    said = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(said | {"files": {"../x": [1, "a"]}}))
    with pytest.raises(DataError, match=r"manifest\.json: files"):
        read_pool(tmp_path)


def test_pools_and_clips_have_separate_settings(pool, tmp_path):
    with pytest.raises(DataError, match=r"--data\.stills"):
        open_pairs(str(pool), scale=4)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "settings": {}}))
    with pytest.raises(DataError, match=r"--data\.clips"):
        is_pool(tmp_path)


def test_the_checksum_depends_on_content_and_not_on_the_path(pool, stills, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, value in content(pool).items():
        (copy / name).write_bytes(value)
    first = checksum_stills(str(pool))
    assert (first.kind, first.files) == ("pool", 6)
    assert checksum_stills(str(copy)) == first
    other = tmp_path / "other"
    prepare_pool(stills, other, PoolSettings(sequences=7, crop_size=12, num_frames=4, seed=1))
    assert checksum_stills(str(other)) != first


@pytest.mark.parametrize(
    "settings", [{"sequences": 0}, {"crop_size": 7}, {"num_frames": 0}, {"seed": -1}, {"scale": 5}]
)
def test_invalid_settings_raise(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        PoolSettings(**settings)


def test_the_command(pool, stills, tmp_path, capsys):
    args = ["--sequences", "7", "--crop-size", "12", "--num-frames", "4"]
    assert main(["prepare", "--stills", str(stills), "--out", str(tmp_path / "out"), *args]) == 0
    assert "7 clips of 4 frames from 2 images" in capsys.readouterr().out.replace("\n", "")
    assert content(tmp_path / "out") == content(pool)
    assert main(["prepare", f"--stills={tmp_path / 'nothing'}", "--out", str(tmp_path / "second")]) == 2
    assert "nothing is no folder" in capsys.readouterr().err.replace("\n", " ")
