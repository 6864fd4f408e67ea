"""Training data: prepared folders, septuplets and clips; crops that are decoded on demand."""

import shutil

import numpy as np
import pytest
import torch

from tests.footage import SHOTS, write_shots
from workbench.config import Data, Network, RunConfig
from workbench.data.datasets.clip_set import ClipEntry, InMemoryFrames
from workbench.data.degradation.families import DEGRADATIONS, degrade
from workbench.data.preparation.manifest import MANIFEST, WORK, PrepareSettings
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.crops import CropSampler, Pair
from workbench.data.sampling.pairs import DiskPair, open_pairs
from workbench.errors import ConfigError, DataError, UnknownNameError
from workbench.training.worker import prepare_run, work


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Arrays, folders and shards of the same footage."""
    root = tmp_path_factory.mktemp("pairs")
    write_shots(root / "shots")
    for form in ("arrays", "folders", "shards"):
        settings = PrepareSettings(format=form, downscale="1", tile_size="48x48", validation=("cliff",))
        prepare([root / "shots"], root / form, settings)
    return root


def in_memory(frames, scale, degradation="bi"):
    """A clip as the set entry of a prepared folder gives it, without low resolution on disk."""
    _, height, width, _ = frames.shape
    entry = ClipEntry(
        name="x", frames=len(frames), size=(width, height), scale=scale, targets=(), source=InMemoryFrames(frames)
    )  # fmt: skip
    return DiskPair(entry, degradation)


@pytest.mark.parametrize(
    ("degradation", "scale"), [(f, s) for f in DEGRADATIONS for s in (2, 3, 4) if s in (DEGRADATIONS[f].scales or (s,))]
)
def test_the_low_resolution_of_a_crop_is_the_crop_of_the_low_resolution(degradation, scale):
    """Everywhere: in the corners, where kernels meet the border of the clip, and in the middle, where they do not."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 24 * scale + 1, 30 * scale, 3), np.uint8)
    footage = in_memory(frames, scale, degradation)
    assert footage.low_shape == (3, 24, 30)
    whole = degrade(frames, degradation, scale)
    for top, left in ((0, 0), (0, 22), (16, 0), (16, 22), (7, 9), (3, 5)):
        rows, columns = slice(top, top + 8), slice(left, left + 8)
        low, high = footage.cut(slice(1, 3), rows, columns)
        assert np.array_equal(low, whole[1:3, rows, columns])
        assert np.array_equal(
            high, frames[1:3, scale * top : scale * (top + 8), scale * left : scale * (left + 8)]
        )  # fmt: skip


def test_a_prepared_folder_yields_chunks_or_septuplets(root):
    arrays, folders = (open_pairs(str(root / form), scale=4) for form in ("arrays", "folders"))
    assert [footage.low_shape for footage in arrays] == [(14, 12, 12), (7, 12, 12), (14, 12, 12)]
    assert [footage.low_shape for footage in folders] == [(7, 12, 12)] * 5
    part = slice(0, 7), slice(0, 12), slice(0, 12)
    for one, other in ((arrays[0], folders[0]), (arrays[1], folders[2])):
        for ours, theirs in zip(one.cut(*part), other.cut(*part), strict=True):
            assert np.array_equal(ours, theirs)
    assert len(open_pairs(str(root / "folders"), scale=4, split="validation")) == 1


def test_chunks_that_are_too_short_are_skipped(root):
    found = open_pairs(str(root / "arrays"), scale=4, num_frames=8)
    assert [footage.low_shape[0] for footage in found] == [14, 14]
    with pytest.raises(DataError, match=r"data.num_frames: want at most 14,.* got 15"):
        open_pairs(str(root / "arrays"), scale=4, num_frames=15)
    with pytest.raises(DataError, match=r"want at most 7,.* got 8"):
        open_pairs(str(root / "folders"), scale=4, num_frames=8)


def test_septuplets_without_a_manifest_are_read(root, tmp_path):
    (tmp_path / "sequences").symlink_to(root / "folders" / "sequences")
    (tmp_path / "sep_trainlist.txt").write_bytes((root / "folders" / "sep_trainlist.txt").read_bytes())
    ours, theirs = open_pairs(str(tmp_path), scale=4), open_pairs(str(root / "folders"), scale=4)
    part = slice(2, 5), slice(3, 11), slice(1, 9)
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one.cut(*part), other.cut(*part), strict=True):
            assert np.array_equal(a, b)
    (half,) = {footage.low_shape for footage in open_pairs(str(tmp_path), scale=2, degradation="bd_duf")}
    assert half == (7, 24, 24)


def test_a_clip_is_one_pair_in_memory(root):
    (pair,) = open_pairs(f"{root / 'shots' / 'alley'}[0:9]", scale=2)
    assert isinstance(pair, Pair)
    assert np.array_equal(pair.high, SHOTS["alley"][:9])
    with pytest.raises(UnknownNameError, match="bigbuckbunny"):
        open_pairs("bigbuckbuny", scale=4)


@pytest.mark.parametrize("form", ["arrays", "folders"])
def test_batches_are_the_same_with_any_number_of_workers(root, form):
    pairs = open_pairs(str(root / form), scale=4)
    sampler = CropSampler(pairs, crop_size=8, num_frames=3, batch_size=2, seed=3)
    alone, one, two = (list(sampler.after(2, 9, workers=workers)) for workers in (0, 1, 2))
    assert len(alone) == 7
    for batch, *others in zip(alone, one, two, strict=True):
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert torch.equal(alone[0][0], sampler.at(3)[0])


def test_settings_that_do_not_fit_raise_with_valid_ones(root, tmp_path):
    with pytest.raises(DataError, match="bi x2, got bi x4"):
        open_pairs(str(root / "arrays"), scale=2)
    with pytest.raises(DataError, match="bd_duf x4, got bi x4"):
        open_pairs(str(root / "folders"), scale=4, degradation="bd_duf")
    with pytest.raises(UnknownNameError, match="no degradation 'bicubic'"):
        open_pairs(str(root / "folders"), scale=4, degradation="bicubic")
    with pytest.raises(ConfigError, match="no rule for x2"):
        open_pairs(str(root / "folders"), scale=2, degradation="bd_tecogan")
    with pytest.raises(DataError, match=r"got shards.* --format arrays"):
        open_pairs(str(root / "shards"), scale=4)
    (tmp_path / WORK).mkdir()
    with pytest.raises(DataError, match="incomplete; run the same"):
        open_pairs(str(tmp_path), scale=4)


def test_a_septuplet_without_a_frame_raises(root, tmp_path):
    shutil.copytree(root / "folders", tmp_path / "set")
    (tmp_path / "set" / "sequences" / "00001" / "0002" / "im3.png").unlink()
    assert (tmp_path / "set" / MANIFEST).is_file()
    footage = open_pairs(str(tmp_path / "set"), scale=4)[1]
    with pytest.raises(DataError, match="00001/0002: im3"):
        footage.cut(slice(0, 3), slice(0, 8), slice(0, 8))


@pytest.mark.parametrize("form", ["arrays", "folders"])
def test_training_is_equal_with_and_without_workers(root, form, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_KEEP_MEMORY", "0")
    losses = []
    for workers in (0, 1):
        data = Data(
            clips=(str(root / form),),
            validation_clip=f"{root / 'shots' / 'cliff'}[0:3]",
            crop_size=8,
            num_frames=3,
            batch_size=2,
            num_workers=workers,
        )
        config = RunConfig(
            precision="fp32",
            student=Network(name="vespcn_s"),
            data=data,
            steps=2,
            snapshot_every=2,
            save_every=2,
            threads=1,
            device="cpu",
        )
        run = prepare_run(tmp_path / f"run{workers}", config)
        assert work(run) == "finished"
        losses.append([row["total"] for row in run.metrics()])
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]
