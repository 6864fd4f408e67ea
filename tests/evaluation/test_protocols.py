import json
from dataclasses import replace

import numpy as np
import pytest

from workbench.data.datasets.clip_set import ClipEntry, InMemoryFrames
from workbench.data.datasets.registry import SETS
from workbench.errors import ConfigError, UnknownNameError
from workbench.evaluation.protocols import PROTOCOLS, Protocol, center_crop, find_protocol

PUBLISHED = {
    # name: (set, family, channel, border crop, frames, left out at either end, window rule)
    "vid4": ("vid4", "bi", "y", 0, "all", 0, "reflection_circle"),
    "vid4_bd_crop8": ("vid4", "bd_duf", "y", 8, "all", 0, None),
    "reds4": ("reds4", "bi", "rgb", 0, "all", 0, "reflection_circle"),
    "vimeo90k_t": ("vimeo90k", "bi", "y", 0, "targets", 0, None),
    "spmcs": ("spmcs30", "bi", "y", 0, "center", 0, None),
    "udm10": ("udm10", "bd_basicvsr", "y", 0, "all", 0, None),
    "tecogan": ("vid4", "bd_tecogan", "y", 0, "all", 2, None),
    "folders": ("folders", "bi", "y", 0, "all", 0, None),
    "held_out": ("clip", "bi", "y", 0, "all", 0, None),
}


def entry(frames=7, targets=(3,)):
    images = np.zeros((frames, 16, 16, 3), np.uint8)
    return ClipEntry(name="a", frames=frames, size=(16, 16), scale=4, targets=targets, source=InMemoryFrames(images))


def test_protocols_have_the_published_settings():
    found = {
        name: (p.data_set, p.degradation, p.channel, p.crop_border, p.frames, p.skip, p.border)
        for name, p in PROTOCOLS.items()
    }
    assert found == PUBLISHED
    assert all(p.averaging == "clips" and p.scale == 4 for p in PROTOCOLS.values())
    assert [name for name, p in PROTOCOLS.items() if p.center] == ["tecogan"]
    assert PROTOCOLS["vimeo90k_t"].options == {"split": "test"}


def test_protocols_are_stored_as_json():
    for name, protocol in PROTOCOLS.items():
        assert protocol.data_set in SETS
        stored = json.loads(json.dumps(protocol.to_dict()))
        assert stored["name"] == name
        assert stored["description"] == protocol.description


def test_the_description_contains_every_setting():
    assert PROTOCOLS["vid4_bd_crop8"].description == (
        "vid4 x4, BD of DUF: Gaussian blur, sigma 0.4 * scale, every scale-th pixel from the first; luma; all frames; "
        "8 pixels cropped at every border; mean of the clips' means. Vid4 of BD tables since DUF."
    )
    assert "windows at the ends of a clip by reflection_circle" in PROTOCOLS["vid4"].description
    assert "; RGB; " in PROTOCOLS["reds4"].description
    assert "the target frames of the dataset" in PROTOCOLS["vimeo90k_t"].description
    assert "all frames but 2 at either end; center crop" in PROTOCOLS["tecogan"].description
    assert replace(PROTOCOLS["folders"], averaging="frames").description.count("mean over all frames") == 1


def test_changed_settings_are_part_of_the_name():
    vid4 = PROTOCOLS["vid4"]
    changed = vid4.change(degradation="bd_duf", crop_border=8, scale=4)
    assert (changed.name, changed.degradation, changed.crop_border) == (
        "vid4+degradation=bd_duf+crop_border=8",
        "bd_duf",
        8,
    )
    assert changed.description.endswith("mean of the clips' means. Changed from vid4: degradation, crop_border.")
    assert vid4.change() == vid4 == vid4.change(crop_border=0)
    with pytest.raises(ConfigError, match=r"protocol 'vid4': .*chanel"):
        vid4.change(chanel="rgb")
    with pytest.raises(ConfigError, match=r"crop_border: .*-8"):
        vid4.change(crop_border=-8)
    with pytest.raises(UnknownNameError, match="did you mean 'bd_duf'"):
        vid4.change(degradation="bd_dfu")
    with pytest.raises(ConfigError, match="bd_tecogan"):
        vid4.change(degradation="bd_tecogan", scale=2)


def test_scored_frames():
    clip = entry()
    assert Protocol(name="p", data_set="clip").scored_frames(clip) == list(range(7))
    assert Protocol(name="p", data_set="clip", skip=2).scored_frames(clip) == [2, 3, 4]
    assert Protocol(name="p", data_set="clip", frames="targets").scored_frames(clip) == [3]
    assert Protocol(name="p", data_set="clip", frames="center").scored_frames(entry(frames=31)) == [15]
    with pytest.raises(ConfigError, match="a: got 4 frames"):
        Protocol(name="p", data_set="clip", skip=2).scored_frames(entry(frames=4))


@pytest.mark.parametrize(
    ("size", "kept"),
    [((576, 720), (544, 704)), ((576, 704), (544, 672)), ((480, 720), (448, 704)), ((48, 49), (32, 32))],
)
def test_center_crop_of_tecogan(size, kept):
    """By its rule: multiples of 32, from the largest down until 8 pixels are left on both sides; centered."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    part = center_crop(np.stack([rows, columns, rows], axis=-1))
    assert part.shape[:2] == kept
    assert part[0, 0, :2].tolist() == [(size[0] - kept[0]) // 2, (size[1] - kept[1]) // 2]
    for whole, left in zip(size, kept, strict=True):
        assert whole - left >= 16 > whole - left - 32
    with pytest.raises(ConfigError, match="60x40"):
        center_crop(np.zeros((40, 60, 3), np.uint8))


def test_an_unknown_protocol_raises():
    assert find_protocol("vid4") is PROTOCOLS["vid4"]
    with pytest.raises(UnknownNameError, match=r"'vid5'.*'vid4'"):
        find_protocol("vid5")
