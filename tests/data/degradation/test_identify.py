import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.specimens import moving_clip
from workbench.data.degradation.families import DEGRADATIONS, degrade
from workbench.data.degradation.identify import (
    FITS_DB,
    INFO_FILE,
    DegradationInfo,
    Timing,
    family_psnr,
    identify,
    make_info,
    parse_folder_name,
    read_info,
    write_info,
)
from workbench.data.video.frame_folder import read_frames
from workbench.errors import DataError, FolderError
from workbench.tensors import to_float

HIGH = moving_clip(2, 96, 128)
BLURS = frozenset({"bd_basicvsr", "bd_duf", "bd_tecogan"})
NOTHING: frozenset[str] = frozenset()


def test_metadata_is_read_as_it_was_written(tmp_path):
    assert read_info(tmp_path) is None
    write_info(tmp_path, make_info("bd_duf", 4, "GT"))
    note = read_info(tmp_path)
    assert note is not None
    assert (note.family, note.scale, note.source) == ("bd_duf", 4, "GT")
    assert {"workbench", "torch", "numpy"} <= note.versions.keys()
    assert json.loads((tmp_path / INFO_FILE).read_text())["format"] == 1


def test_metadata_needs_only_family_and_scale(tmp_path):
    (tmp_path / INFO_FILE).write_text('{"format": 1, "family": "camera", "scale": 3}')
    assert read_info(tmp_path) == DegradationInfo(family="camera", scale=3)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "4", '{"format": 2, "family": "bi", "scale": 4}', '{"format": 1, "family": "bi"}',
     '{"format": 1, "family": 3, "scale": 4}', '{"format": 1, "family": "bi", "scale": true}', "\x00\udcff",
     "[" * 100_000],
)  # fmt: skip
def test_invalid_metadata_raises(tmp_path, content):
    (tmp_path / INFO_FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(FolderError, match=r"degradation\.json: cannot be read .*want \{\"format\": 1"):
        read_info(tmp_path)


@pytest.mark.parametrize(
    ("place", "families", "scale"),
    [
        ("Vid4/BIx4", {"bi"}, 4),
        ("Vid4/BDx4", BLURS, 4),
        ("Vid4/BDx2", BLURS, 2),
        ("REDS/train_sharp_bicubic/X4", {"bi"}, 4),
        ("vimeo_septuplet_matlabLRx4/sequences", {"bi"}, 4),
        ("udm10/clap/blur4", BLURS, 4),
        ("vid4/bd_duf", {"bd_duf"}, None),
        ("vid4/bd_tecogan_x4", {"bd_tecogan"}, 4),
        ("vid4/LR", set(), None),
        ("vid4/X3", set(), 3),
        ("city2/LR", set(), None),
        ("bicycles/BIG", set(), None),
    ],
)
def test_folder_names_are_parsed(place, families, scale):
    assert parse_folder_name(Path(place)) == (families, scale)


@pytest.mark.parametrize("family", DEGRADATIONS)
def test_every_family_is_identified_without_a_name(family):
    pairs = [(degrade(HIGH[:1], family, 4), HIGH[:1])]
    assert identify(pairs, 4, NOTHING, Path("low")) == family
    assert identify(pairs, 4, frozenset({family, "bi"}), Path("low")) == family
    found = family_psnr(pairs, 4)
    assert math.isinf(found.pop(family))
    assert max(found.values()) < FITS_DB + 12


@pytest.mark.parametrize("scale", [2, 3])
def test_families_are_identified_at_other_scales(scale):
    for family in ("bi", "bd_basicvsr", "bd_duf"):
        assert identify([(degrade(HIGH, family, scale), HIGH)], scale, NOTHING, Path("low")) == family
    assert "bd_tecogan" not in family_psnr([(degrade(HIGH, "bi", scale), HIGH)], scale)


def test_scores_of_families_are_psnr():
    low = degrade(HIGH, "bi", 4)
    off = np.where(low < 128, low + 2, low - 2)
    assert family_psnr([(off, HIGH), (off, HIGH)], 4)["bi"] == pytest.approx(20 * math.log10(255 / 2))
    border = low.copy()
    border[:, :4], border[:, -4:], border[:, :, :4], border[:, :, -4:] = 0, 0, 0, 0
    assert math.isinf(family_psnr([(border, HIGH)], 4)["bi"])


def test_another_family_than_that_of_the_name_raises_with_the_right_one():
    pairs = [(degrade(HIGH, "bd_duf", 4), HIGH)]
    for claim in ("bi", "bd_basicvsr"):
        with pytest.raises(
            DataError,
            match=rf"low: .*{claim} \(.*4i \+ 1\.5\).* bd_duf \(.*4i\): bd_duf equal, bd_tecogan .* dB, .* 8 dB",
        ):
            identify(pairs, 4, frozenset({claim}), Path("low"))


def test_images_of_no_family_raise():
    shrunk = np.stack([cv2.resize(frame, (32, 24), interpolation=cv2.INTER_CUBIC) for frame in HIGH])
    other = degrade(HIGH[::-1], "bi", 4)  # the right family of the wrong frames
    for low in (shrunk, other):
        with pytest.raises(DataError, match=r"45 dB.*degrade"):
            identify([(low, HIGH)], 4, frozenset({"bi"}), Path("low"))


def test_black_frames_are_ignored():
    black = np.zeros_like(HIGH)
    pairs = [(degrade(black, "bi", 4), black), (degrade(HIGH, "bd_tecogan", 4), HIGH)]
    assert identify(pairs, 4, BLURS, Path("low")) == "bd_tecogan"


def test_the_name_decides_if_images_are_ambiguous():
    black = [(degrade(HIGH * 0, "bi", 4), HIGH * 0)]
    assert identify(black, 4, frozenset({"bd_duf"}), Path("low")) == "bd_duf"
    with pytest.raises(DataError, match=r"bd_basicvsr and bd_duf and bd_tecogan .*degradation.json"):
        identify(black, 4, BLURS, Path("low"))


def test_other_rounding_is_tolerated():
    """One level off at some values; Pillow's bicubic, rounded between its passes; levels truncated, not rounded."""
    off = degrade(HIGH, "bi", 4)
    off[np.random.default_rng(0).random(off.shape) < 0.01] ^= 1
    pillow = np.stack([np.asarray(Image.fromarray(frame).resize((32, 24), Image.Resampling.BICUBIC)) for frame in HIGH])
    for low in (off, pillow):
        assert identify([(low, HIGH)], 4, NOTHING, Path("low")) == "bi"
    exact = degrade(to_float(HIGH), "bd_tecogan", 4)
    truncated = exact.mul(255).floor().to(torch.uint8)[0].permute(0, 2, 3, 1).numpy()
    assert identify([(truncated, HIGH)], 4, BLURS, Path("low")) == "bd_tecogan"


def test_families_are_identified_on_real_video(shared):
    high = read_frames(shared / "data" / "vid4" / "GT" / "foliage", first=24, last=25)
    for family in DEGRADATIONS:
        assert identify([(degrade(high, family, 4), high)], 4, NOTHING, Path("low")) == family


@pytest.mark.parametrize(
    "timing",
    [[], {"a": 25}, {"a": {}}, {"a": {"fps": "fast"}}, {"a": {"fps": 0}}, {"a": {"fps": 9, "times_seconds": 1}}],
)
def test_an_invalid_timing_raises(tmp_path, timing):
    (tmp_path / INFO_FILE).write_text(json.dumps({"format": 1, "family": "bi", "scale": 4, "timing": timing}))
    with pytest.raises(FolderError, match=r"degradation\.json: cannot be read \(timing"):
        read_info(tmp_path)


def test_a_timing_is_read_as_it_was_written(tmp_path):
    timing = {"a": Timing(fps=25.0), "b/c": Timing(fps=12.5, times_seconds=(0.0, 0.08, 0.2))}
    write_info(tmp_path, make_info("bi", 4, "videos", timing))
    found = read_info(tmp_path)
    assert found is not None
    assert found.timing == timing
    assert json.loads((tmp_path / INFO_FILE).read_text())["timing"]["a"] == {"fps": 25.0}
