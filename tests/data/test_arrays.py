"""Memory-mapped footage: what is in the files, what travels to other processes, what is refused."""

import pickle

import numpy as np
import pytest

from tests.footage import write_shots
from workbench.data.arrays import GrowingArray, map_pair, open_arrays
from workbench.data.crops import CropSampler
from workbench.data.prepare import prepare
from workbench.data.prepared import MANIFEST, Settings
from workbench.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("arrays")
    prepare([write_shots(root / "shots")], root / "set", Settings(shrink="1", validation_share=0))
    return root / "set"


@pytest.fixture
def copy(folder, tmp_path):
    for path in folder.rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(folder)).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("counts", [[], [1], [7, 7, 7], [1] * 12])
def test_a_file_that_grew_is_the_file_that_numpy_saves(tmp_path, counts):
    frames = np.random.default_rng(0).integers(0, 256, (sum(counts), 5, 4, 3), np.uint8)
    growing, at = GrowingArray(tmp_path / "grown.npy", 5, 4), 0
    for count in counts:
        growing.add(frames[at : at + count, :, ::-1][:, :, ::-1])  # need not lie in one piece
        at += count
    growing.close()
    np.save(tmp_path / "saved.npy", frames)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_nothing_is_read_until_it_is_asked_for(folder):
    pairs = open_arrays(folder)
    assert all(isinstance(array, np.memmap) for pair in pairs for array in (pair.low, pair.high))
    assert not any(array.flags.writeable for pair in pairs for array in (pair.low, pair.high))
    assert [pair.scale for pair in pairs] == [4] * 4


def test_to_another_process_goes_the_path_and_not_the_content(folder):
    pairs = open_arrays(folder)
    sent = pickle.dumps(pairs)
    assert len(sent) < 500 * len(pairs)
    for pair, again in zip(pairs, pickle.loads(sent), strict=True):
        assert isinstance(again.high, np.memmap)
        assert np.array_equal(pair.high, again.high)
        assert np.array_equal(pair.low, again.low)


def test_crops_are_those_of_the_same_pairs_in_memory(folder):
    pairs = open_arrays(folder)
    held = [type(pair).__base__(low=np.array(pair.low), high=np.array(pair.high)) for pair in pairs]
    mapped, memory = (CropSampler(some, crop=8, frames=3, batch=3, seed=1) for some in (pairs, held))
    for step in range(5):
        for one, other in zip(mapped.at(step), memory.at(step), strict=True):
            assert (one == other).all()


def test_a_split_with_nothing_in_it(folder):
    with pytest.raises(DataError, match="nothing to take for validation"):
        open_arrays(folder, "validation")


def test_a_missing_a_truncated_and_a_strange_array_are_named(copy):
    path = copy / "high" / "alley-000.npy"
    whole = path.read_bytes()
    for damaged, says in (
        (None, r"alley-000.npy: not an array that can be read .*run `workbench prepare` again"),
        (whole[:-1], r"alley-000.npy: not an array that can be read"),
        (whole[:50], r"alley-000.npy: not an array that can be read"),
        (b"", r"alley-000.npy: not an array that can be read"),
    ):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(DataError, match=says):
            open_arrays(copy)
    np.save(path, np.zeros((14, 48, 60, 3), np.float32))
    with pytest.raises(DataError, match=r"alley-000.npy: want uint8 \(T, H, W, 3\), got float32"):
        open_arrays(copy)
    np.save(path, np.zeros((7, 48, 60, 3), np.uint8))
    with pytest.raises(DataError, match=r"\(7, 48, 60, 3\), but the manifest says \(14, 48, 60, 3\)"):
        open_arrays(copy)


class _Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def test_objects_are_never_unpickled(copy, capsys):
    np.save(copy / "high" / "alley-000.npy", np.array([_Trap()], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"alley-000.npy: not an array that can be read"):
        open_arrays(copy)
    with pytest.raises(DataError, match=r"alley-000.npy: not an array"):
        map_pair(str(copy / "low" / "alley-000.npy"), str(copy / "high" / "alley-000.npy"))
    assert capsys.readouterr().out == ""


def test_another_form_is_refused(copy):
    manifest = copy / MANIFEST
    manifest.write_text(manifest.read_text().replace('"form": "arrays"', '"form": "shards"'))
    with pytest.raises(DataError, match="holds shards, not arrays; prepare it with --form arrays"):
        open_arrays(copy)
