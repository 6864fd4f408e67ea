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
    "spmcs": ("spmcs30", "bi", "y", 0, "centre", 0, None),
    "udm10": ("udm10", "bd_basicvsr", "y", 0, "all", 0, None),
    "tecogan": ("vid4", "bd_tecogan", "y", 0, "all", 2, None),
    "folders": ("folders", "bi", "y", 0, "all", 0, None),
    "held_out": ("clip", "bi", "y", 0, "all", 0, None),
}


def entry(frames=7, targets=(3,)):
    pictures = np.zeros((frames, 16, 16, 3), np.uint8)
    return ClipEntry(name="a", frames=frames, size=(16, 16), scale=4, targets=targets, source=InMemoryFrames(pictures))


def test_the_presets_are_what_the_field_scores():
    found = {
        name: (p.data_set, p.degradation, p.channel, p.crop, p.frames, p.skip, p.border)
        for name, p in PROTOCOLS.items()
    }
    assert found == PUBLISHED
    assert all(p.averaging == "clips" and p.scale == 4 for p in PROTOCOLS.values())
    assert [name for name, p in PROTOCOLS.items() if p.centre] == ["tecogan"]
    assert PROTOCOLS["vimeo90k_t"].options == {"split": "test"}


def test_every_preset_names_a_kind_of_set_and_can_be_stored():
    for name, protocol in PROTOCOLS.items():
        assert protocol.data_set in SETS
        stored = json.loads(json.dumps(protocol.to_dict()))
        assert stored["name"] == name
        assert stored["description"] == protocol.description


def test_the_description_says_all_of_it():
    assert PROTOCOLS["vid4_bd_crop8"].description == (
        "vid4 x4, BD of DUF: Gaussian blur, sigma 0.4 * scale, every scale-th pixel from the first; luma; all frames; "
        "8 pixels left out at every border; mean of the clips' means. The usual Vid4 of BD tables that go back to DUF."
    )
    assert "windows at the ends of a clip by reflection_circle" in PROTOCOLS["vid4"].description
    assert "; RGB; " in PROTOCOLS["reds4"].description
    assert "the frames that the set names" in PROTOCOLS["vimeo90k_t"].description
    assert "all frames but 2 at either end; the middle of the picture" in PROTOCOLS["tecogan"].description
    assert replace(PROTOCOLS["folders"], averaging="frames").description.count("mean over all frames alike") == 1


def test_what_is_changed_is_part_of_the_name():
    vid4 = PROTOCOLS["vid4"]
    changed = vid4.change(degradation="bd_duf", crop=8, scale=4)
    assert (changed.name, changed.degradation, changed.crop) == ("vid4+degradation=bd_duf+crop=8", "bd_duf", 8)
    assert changed.description.endswith("mean of the clips' means. Changed from vid4: degradation, crop.")
    assert vid4.change() == vid4 == vid4.change(crop=0)
    with pytest.raises(ConfigError, match="protocol 'vid4': no setting chanel"):
        vid4.change(chanel="rgb")
    with pytest.raises(ConfigError, match="crop: want 0 or more, got -8"):
        vid4.change(crop=-8)
    with pytest.raises(UnknownNameError, match="did you mean 'bd_duf'"):
        vid4.change(degradation="bd_dfu")
    with pytest.raises(ConfigError, match="bd_tecogan"):
        vid4.change(degradation="bd_tecogan", scale=2)


def test_which_frames_count():
    clip = entry()
    assert Protocol(name="p", data_set="clip").counted(clip) == list(range(7))
    assert Protocol(name="p", data_set="clip", skip=2).counted(clip) == [2, 3, 4]
    assert Protocol(name="p", data_set="clip", frames="targets").counted(clip) == [3]
    assert Protocol(name="p", data_set="clip", frames="centre").counted(entry(frames=31)) == [15]
    with pytest.raises(ConfigError, match="a: of 4 frames none is left to score"):
        Protocol(name="p", data_set="clip", skip=2).counted(entry(frames=4))


@pytest.mark.parametrize(
    ("size", "kept"),
    [((576, 720), (544, 704)), ((576, 704), (544, 672)), ((480, 720), (448, 704)), ((48, 49), (32, 32))],
)
def test_the_middle_of_tecogan(size, kept):
    """By its rule: multiples of 32, from the largest down until 8 pixels are left on both sides; laid in the middle."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    part = center_crop(np.stack([rows, columns, rows], axis=-1))
    assert part.shape[:2] == kept
    assert part[0, 0, :2].tolist() == [(size[0] - kept[0]) // 2, (size[1] - kept[1]) // 2]
    for whole, left in zip(size, kept, strict=True):
        assert whole - left >= 16 > whole - left - 32
    with pytest.raises(ConfigError, match="a picture of 60x40 has no middle"):
        center_crop(np.zeros((40, 60, 3), np.uint8))


def test_a_name_that_is_not_there():
    assert find_protocol("vid4") is PROTOCOLS["vid4"]
    with pytest.raises(UnknownNameError, match="no protocol 'vid5'; did you mean 'vid4'"):
        find_protocol("vid5")
