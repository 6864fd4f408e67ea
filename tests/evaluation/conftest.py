"""Small sets: two clips on disk, or one in memory."""

import pytest
from PIL import Image

from workbench.data.datasets.clip_set import ClipEntry, ClipSet, InMemoryFrames
from workbench.data.datasets.samples import sample


def save_frames(folder, frames):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


@pytest.fixture(scope="session")
def save():
    """Return a function that writes frames as numbered images to a new folder."""
    return save_frames


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two clips of different length and size; one is not a multiple of 4."""
    folder = tmp_path_factory.mktemp("data") / "set"
    save_frames(folder / "clip_10", sample("carphone", frames=5).frames)
    save_frames(folder / "clip_9", sample("carphone", frames=(40, 43)).frames[:, :50, :67])
    return folder


@pytest.fixture(scope="session")
def held():
    """Makes a set of one clip in memory."""
    return held_in_memory


def held_in_memory(frames, *, targets=None, source=None):
    """A set of one clip in memory."""
    count = len(frames)
    entry = ClipEntry(
        name="walk",
        frames=count,
        size=(frames.shape[2], frames.shape[1]),
        scale=4,
        targets=targets or tuple(range(count)),
        source=source or InMemoryFrames(frames),
    )
    return ClipSet(name="Held", scale=4, degradation=None, clips=(entry,))
