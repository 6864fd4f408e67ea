"""Shards: who reads what and in which order, and what a shard may hold."""

import io
import tarfile
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.footage import prepare_shards
from workbench.data.preparation.manifest import MANIFEST
from workbench.data.sampling import shards as sharding
from workbench.data.sampling.shards import Shard, ShardSampler, open_shards, read_sample, read_samples
from workbench.errors import DataError

CROP = {"crop_size": 6, "num_frames": 3, "batch_size": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def shards(folder):
    return open_shards(folder)


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def tar(path, members, kind=tarfile.REGTYPE):
    """A tar file of named contents."""
    with tarfile.open(path, "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind
            file.addfile(info, io.BytesIO(content))
    return path


HIGH, LOW = np.full((7, 8, 8, 3), 9, np.uint8), np.full((7, 2, 2, 3), 9, np.uint8)
GOOD = [("a.high.npy", npy(HIGH)), ("a.low.npy", npy(LOW))]


def read(path):
    return [read_sample(sample) for sample in read_samples(path)]


def keys_of_an_epoch(crops, epoch=0, worker=0, workers=1):
    """The names that one reader sees in an epoch, in order."""
    every = islice(crops._septuplets(worker, workers, 0), 100)
    return [sample["__key__"] for number, sample in every if number == epoch]


def as_machine(monkeypatch, rank, machines):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(machines))


def test_every_epoch_has_every_septuplet_once_in_a_new_order(shards):
    crops = ShardSampler(shards, **CROP)
    epochs = [keys_of_an_epoch(crops, epoch) for epoch in range(3)]
    every = {sample["__key__"] for shard in shards for sample in read_samples(shard.path)}
    assert len(every) == 12
    assert all(Counter(keys) == Counter(every) for keys in epochs)
    assert len({tuple(keys) for keys in epochs}) == 3


def test_the_order_is_a_function_of_seed_and_epoch(shards):
    one, same, other = (keys_of_an_epoch(ShardSampler(shards, seed=seed, **CROP), 1) for seed in (5, 5, 6))
    assert one == same != other
    orders = {tuple(shard.path.name for shard in ShardSampler(shards, seed=5, **CROP).order(n)) for n in range(20)}
    assert len(orders) == 6  # of three files


@pytest.mark.parametrize(("machines", "workers"), [(3, 1), (1, 3)])
def test_machines_and_readers_share_an_epoch_without_overlap(shards, monkeypatch, machines, workers):
    for epoch in (0, 1):
        seen = []
        for rank in range(machines):
            for worker in range(workers):
                as_machine(monkeypatch, rank, machines)
                seen += [keys_of_an_epoch(ShardSampler(shards, **CROP), epoch, worker, workers)]
        assert sorted(len(keys) for keys in seen) == [2, 4, 6]
        assert len({key for keys in seen for key in keys}) == 12


def batches(shards, count, workers=0, **options):
    loader = DataLoader(ShardSampler(shards, **CROP, **options), batch_size=None, num_workers=workers)
    return [(low.clone(), high.clone()) for low, high in islice(loader, count)]


def equal(ours, theirs):
    return all(
        torch.equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_repeatable_and_resumable(shards, workers):
    whole = batches(shards, 40, workers)
    assert equal(whole, batches(shards, 40, workers))
    assert not equal(whole, batches(shards, 40, workers, seed=1))
    for done in (4, 5, 6, 35):
        assert equal(whole[done : done + 4], batches(shards, 4, workers, done=done))
    low, high = whole[0]
    assert low.shape == (2, 3, 3, 6, 6)
    assert high.shape == (2, 3, 3, 24, 24)


def many_shards(folder, count=12, samples=5):
    """Some tar files of small septuplets of different names."""
    members = [[(f"{n}-{m}.{name}", content) for m in range(samples) for name, content in
                (("high.npy", npy(HIGH)), ("low.npy", npy(LOW)))] for n in range(count)]  # fmt: skip
    paths = [tar(folder / f"{n}.tar", content) for n, content in enumerate(members)]
    return [Shard(path, samples, path.stat().st_size, (2, 2)) for path in paths]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resume_opens_no_file_before_its_position(tmp_path, monkeypatch, workers):
    """Apart from those of septuplets that are still in the shuffle buffer, here two."""
    monkeypatch.setattr(sharding, "SHUFFLE_BUFFER", 2)
    opened = []
    monkeypatch.setattr(sharding, "read_samples", lambda path: opened.append(path.name) or read_samples(path))
    crops = ShardSampler(many_shards(tmp_path), crop_size=2, num_frames=3, batch_size=1)
    whole = [(epoch, sample["__key__"]) for epoch, sample in islice(crops._septuplets(0, workers, 0), 130)]
    files = len(crops.shards) // workers
    assert opened[:files] == [shard.path.name for shard in crops.order(0)[::workers]]
    for done in (1, 4, 5, 23, 29, 47, 60, 75, 100):
        opened.clear()
        resumed = crops._septuplets(0, workers, done)
        epoch, sample = next(resumed)
        left = {key.split("-")[0] for number, key in whole[done:] if number == epoch}  # files of septuplets to come
        order = [shard.path.name for shard in crops.order(epoch)[::workers]]
        assert opened == [name for name in order if name.split(".")[0] in left][: len(opened)]
        assert len(opened) <= 3  # of the position, of the buffer, and perhaps the next one
        rest = [(number, later["__key__"]) for number, later in islice(resumed, 129 - done)]
        assert [(epoch, sample["__key__"]), *rest] == whole[done:]


def test_a_file_with_more_or_fewer_septuplets_than_listed_raises(tmp_path):
    for shard in many_shards(tmp_path, count=1):
        for listed in (4, 6):
            crops = ShardSampler([replace(shard, samples=listed)], crop_size=2, num_frames=3, batch_size=1)
            with pytest.raises(DataError, match=rf"0.tar: want {listed} septuplets, got 5"):
                list(islice(crops, 10))


def test_a_crop_is_part_of_its_septuplet(shards):
    pairs = [read_sample(sample) for shard in shards for sample in read_samples(shard.path)]
    for low, high in batches(shards, 3, augment=False):
        for small, large in zip(low, high, strict=True):
            wanted = (small * 255).round().byte().permute(0, 2, 3, 1).numpy()
            places = [
                (pair, t, y, x)
                for pair in pairs
                for t in range(5)
                for y in range(7)
                for x in range(3)
                if np.array_equal(pair.low[t : t + 3, y : y + 6, x : x + 6], wanted)
            ]
            assert len(places) >= 1
            found = [
                np.array_equal(
                    pair.high[t : t + 3, 4 * y : 4 * y + 24, 4 * x : 4 * x + 24],
                    (large * 255).round().byte().permute(0, 2, 3, 1).numpy(),
                )
                for pair, t, y, x in places
            ]
            assert any(found)


def test_long_sources_fill_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "SAMPLES_PER_SHARD", 2)
    folder = prepare_shards(tmp_path)
    found = {shard.path.name: shard.samples for shard in open_shards(folder)}
    assert found == {
        "train-alley-000.tar": 2, "train-alley-001.tar": 2, "train-beach-000.tar": 2, "train-beach-001.tar": 2,
        "train-beach-002.tar": 2, "train-cliff-000.tar": 2,
    }  # fmt: skip
    assert all(len(read(shard.path)) == 2 for shard in open_shards(folder))


def test_fewer_files_than_readers_raise(shards, monkeypatch):
    as_machine(monkeypatch, 0, 4)
    with pytest.raises(DataError, match=r"3 tar files .*4 machines .*1 readers"):
        next(iter(ShardSampler(shards, **CROP)))


def test_crops_that_are_too_large_raise(shards):
    with pytest.raises(DataError, match=r"train-alley-000.tar: want 9 or more .* got width 8;"):
        ShardSampler(shards, crop_size=9, num_frames=3, batch_size=1)


class _Trap:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    "name", ["a.pkl", "a.pyd", "a.pth", "a.high.npz", "a.high.npy.pkl", "a", "__x__", "a.HIGH.NPY", "d.d/a.high.npy"]
)
def test_members_of_other_names_raise(tmp_path, name, capsys):
    import pickle

    path = tar(tmp_path / "x.tar", [*GOOD, (name, pickle.dumps(_Trap()))])
    with pytest.raises(DataError, match=r"x.tar: member '.*' .*high.npy"):
        read(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_members_that_are_no_files_raise(tmp_path, kind):
    path = tar(tmp_path / "x.tar", [("a.high.npy", b"")], kind)
    with pytest.raises(DataError, match=r"member 'a.high.npy/?'"):
        read(path)


@pytest.mark.parametrize(
    ("members", "pattern"),
    [
        ([("a.high.npy", npy(HIGH))], "a: 'low.npy' is missing"),
        ([("a.high.npy", npy(HIGH)), ("b.low.npy", npy(LOW))], "a: 'low.npy' is missing"),
        ([*GOOD, GOOD[0]], r"x.tar: a.high.npy: duplicate"),
        ([("a.high.npy", npy(HIGH)), ("a.low.npy", npy(LOW[:, :, :1]))], "a: high: want a multiple of low"),
        ([("a.high.npy", npy(HIGH)), ("a.low.npy", npy(LOW.astype(np.float32)))], "a: want uint8 in C order"),
        ([("a.high.npy", npy(HIGH[0])), ("a.low.npy", npy(LOW))], r"a: high: want uint8 \(T, H, W, 3\)"),
        ([("a.high.npy", npy(HIGH)), ("a.low.npy", npy(LOW)[:-5])], "a: cannot reshape"),
        ([("a.high.npy", npy(HIGH)), ("a.low.npy", b"hello")], "a: "),
        ([("a.high.npy", npy(HIGH)), ("a.low.npy", b"")], "a: "),
        ([("a.high.npy", npy(HIGH)), ("a.low.npy", npy(np.array([_Trap()], object)))], "a: "),
    ],
)
def test_samples_that_are_not_two_clips_raise(tmp_path, members, pattern, capsys):
    with pytest.raises(DataError, match=pattern):
        read(tar(tmp_path / "x.tar", members))
    assert capsys.readouterr().out == ""


def test_an_array_with_a_huge_header_is_not_allocated(tmp_path):
    """A header of 10^15 frames over a few bytes; numpy's own reader would ask for the memory first."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (10**15, 8, 8, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    path = tar(tmp_path / "x.tar", [("a.high.npy", header.getvalue() + b"x" * 50), GOOD[1]])
    with pytest.raises(DataError, match="a: cannot reshape"):
        read(path)


def test_truncated_compressed_and_other_files_raise(tmp_path):
    whole = tar(tmp_path / "whole.tar", GOOD).read_bytes()
    for content in (whole[:700], whole[:512], b"hello" * 400, b"", b"\x1f\x8b" + whole):
        (tmp_path / "cut.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"cut.tar: "):
            read(tmp_path / "cut.tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.high.npy"), io.BytesIO(b""))
    with pytest.raises(DataError, match=r"packed.tar: truncated"):
        read(tmp_path / "packed.tar")
    with pytest.raises(DataError, match=r"gone.tar: truncated"):
        read(tmp_path / "gone.tar")


def test_a_missing_or_truncated_file_raises_on_opening(folder, tmp_path):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / "train-beach-000.tar"
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train-beach-000.tar: .*[\d,]+ of [\d,]+ bytes"):
        open_shards(tmp_path)
    target.unlink()
    with pytest.raises(DataError, match=r"train-beach-000.tar: .*missing"):
        open_shards(tmp_path)
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": "shards"', '"format": "folders"'))
    with pytest.raises(DataError, match=r"got folders.*--format shards"):
        open_shards(tmp_path)


def test_a_file_name_is_never_run_as_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="truncated"):
        next(iter(ShardSampler([Shard(type(tmp_path)("pipe:touch ran"), 1, 1, (8, 8))], **CROP)))
    assert not (tmp_path / "ran").exists()
