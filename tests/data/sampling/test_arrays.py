"""Memory-mapped footage: what is in the files, what travels to other processes, what is refused."""

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.footage import write_shots
from workbench.data.preparation.manifest import MANIFEST, PrepareSettings
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling import arrays
from workbench.data.sampling.arrays import ArrayFile, GrowingArray, open_arrays
from workbench.data.sampling.crops import CropSampler, Pair
from workbench.data.sampling.file_state import FileState
from workbench.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("arrays")
    prepare([write_shots(root / "shots")], root / "set", PrepareSettings(downscale="1", validation_share=0))
    return root / "set"


@pytest.fixture
def copy(folder, tmp_path):
    for path in folder.rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(folder)).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("counts", [[], [1], [7, 7, 7], [1] * 12])
def test_a_growing_array_equals_numpy_save(tmp_path, counts):
    frames = np.random.default_rng(0).integers(0, 256, (sum(counts), 5, 4, 3), np.uint8)
    growing, at = GrowingArray(tmp_path / "grown.npy", 5, 4), 0
    for count in counts:
        growing.add(frames[at : at + count, :, ::-1][:, :, ::-1])  # need not lie in one piece
        at += count
    growing.close()
    np.save(tmp_path / "saved.npy", frames)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_arrays_are_read_lazily(folder):
    pairs = open_arrays(folder)
    assert all(isinstance(array, np.memmap) for pair in pairs for array in (pair.low, pair.high))
    assert not any(array.flags.writeable for pair in pairs for array in (pair.low, pair.high))
    assert len(pairs) == 4


def test_pickling_an_array_stores_its_path(folder):
    pairs = open_arrays(folder)
    sent = pickle.dumps(pairs)
    assert len(sent) < 500 * len(pairs)
    for pair, again in zip(pairs, pickle.loads(sent), strict=True):
        assert isinstance(again.high, np.memmap)
        assert np.array_equal(pair.high, again.high)
        assert np.array_equal(pair.low, again.low)


def test_crops_equal_those_of_pairs_in_memory(folder):
    pairs = open_arrays(folder)
    held = [Pair(low=np.array(pair.low), high=np.array(pair.high)) for pair in pairs]
    mapped, memory = (CropSampler(some, crop_size=8, num_frames=3, batch_size=3, seed=1) for some in (pairs, held))
    for step in range(5):
        for one, other in zip(mapped.at(step), memory.at(step), strict=True):
            assert (one == other).all()


def test_an_empty_split_raises(folder):
    with pytest.raises(DataError, match="validation is empty"):
        open_arrays(folder, "validation")


def test_missing_and_truncated_arrays_raise_on_opening(copy):
    path = copy / "high" / "alley-000.npy"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"alley-000.npy: .*No such file"):
        open_arrays(copy)
    for damaged in (whole[:-1], whole[:50], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"alley-000.npy: has {len(damaged):,} of {len(whole):,} bytes"):
            open_arrays(copy)


def test_other_arrays_of_the_right_size_raise_when_a_crop_is_cut(copy):
    path = copy / "high" / "alley-000.npy"
    whole = path.read_bytes()
    other = {
        "not an array that can be read": b"x" * len(whole),
        r"want uint8 \(14, 48, 60, 3\), got int8 \(14, 48, 60, 3\)": whole.replace(b"|u1", b"|i1"),
        r"want uint8 \(14, 48, 60, 3\), got uint8 \(14, 60, 48, 3\)": whole.replace(b"48, 60", b"60, 48"),
    }
    for pattern, content in other.items():
        path.write_bytes(content)
        sampler = CropSampler(open_arrays(copy), crop_size=8, num_frames=3, batch_size=20)
        with pytest.raises(DataError, match=f"alley-000.npy: {pattern}"):
            sampler.at(1)


def test_opening_a_set_opens_no_array(folder, monkeypatch):
    """The shapes are in the manifest; reading 130,000 headers takes minutes."""
    opened = []
    monkeypatch.setattr(arrays, "_open_map", lambda path: opened.append(path) or np.lib.format.open_memmap(path))
    arrays._mapped.cache_clear()
    sampler = CropSampler(open_arrays(folder), crop_size=8, num_frames=3, batch_size=1)
    assert opened == []
    sampler.at(1)
    assert {path.parent.name for path in opened} == {"low", "high"}
    assert len(opened) == 2


class _Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def test_objects_are_never_unpickled(copy, capsys):
    np.save(copy / "high" / "alley-000.npy", np.array([_Trap()], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"alley-000.npy"):
        ArrayFile(FileState.of(copy / "high" / "alley-000.npy"), np.uint8, (14, 48, 60, 3)).map()
    assert capsys.readouterr().out == ""


def test_another_format_raises(copy):
    manifest = copy / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": "arrays"', '"format": "shards"'))
    with pytest.raises(DataError, match=r"got shards.*--format arrays"):
        open_arrays(copy)


def test_a_file_replaced_during_use_raises(copy):
    path = copy / "high" / "beach-000.npy"
    before = ArrayFile(FileState.of(path), np.uint8, np.load(path, mmap_mode="r").shape)
    np.save(path, np.zeros((3, 48, 60, 3), np.uint8))
    with pytest.raises(DataError, match=r"beach-000\.npy"):
        before.map()


def test_more_clips_than_open_files_are_allowed(tmp_path):
    """300 clips in two sets, read here and by two workers, and frames cut into 192 tiles, with 128 descriptors."""
    pytest.importorskip("resource", reason="this system has no limit of open files to lower")
    script = tmp_path / "few.py"
    script.write_text(
        textwrap.dedent(
            """
            import resource, sys
            from pathlib import Path

            import numpy as np

            from tests.footage import pan, save
            from workbench.data.sampling.arrays import open_arrays
            from workbench.data.sampling.crops import CropSampler
            from workbench.data.preparation.prepare import prepare
            from workbench.data.preparation.manifest import MANIFEST, Chunk, Manifest, PrepareSettings, Source

            CLIPS = 150


            def write_set(folder):
                chunks = []
                for part, side in (("high", 16), ("low", 4)):
                    (folder / part).mkdir(parents=True)
                    for n in range(CLIPS):
                        np.save(folder / part / f"{n}.npy", np.full((3, side, side, 3), n, np.uint8))
                for n in range(CLIPS):
                    chunks.append(Chunk(name=str(n), high=f"high/{n}.npy", low=f"low/{n}.npy", first=0, frames=3,
                                        size=(16, 16), septuplets=0))
                source = Source(name="a", file="a", sha256="", split="train", size=(16, 16), downscale=1, counts={},
                                damage="", chunks=tuple(chunks), files={})
                (folder / MANIFEST).write_text(Manifest(settings=PrepareSettings(), sources=(source,)).to_json())
                return folder


            def main(root):
                resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
                pairs = [pair for name in ("one", "two") for pair in open_arrays(write_set(root / name))]
                assert [int(pair.low[0, 0, 0, 0]) for pair in pairs] == [*range(CLIPS)] * 2
                sampler = CropSampler(pairs, crop_size=4, num_frames=3, batch_size=20, augment=False)
                here, there = (list(sampler.after(0, 10, workers=workers)) for workers in (0, 2))
                for one, other in zip(here, there, strict=True):
                    assert all((a == b).all() for a, b in zip(one, other, strict=True))
                print(len({int(clip[0, 0, 0, 0] * 255 + 0.5) for low, _ in here for clip in low}), "clips drawn")
                save(root / "shots", pan(14))
                settings = PrepareSettings(tile_size="4x4", downscale="1", validation_share=0)
                prepare([root / "shots"], root / "tiles", settings)
                print(len(open_arrays(root / "tiles")), "tiles")


            if __name__ == "__main__":
                main(Path(sys.argv[1]))
            """
        )
    )
    root = str(Path(__file__).parents[3])  # of the package and of the tests
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr[-2000:]
    drawn, tiles = (int(line.split()[0]) for line in ended.stdout.splitlines())
    assert drawn > 64
    assert tiles == 192
