"""Transfer of a source's properties to an output file: for each property, whether it is kept, converted or lost.

No property of a source is dropped silently. The same plan configures the writer and is shown to the user before hours
of work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from workbench.data.video.color import Conversion
from workbench.data.video.container import UNSPECIFIED
from workbench.data.video.frame_folder import check_sizes, color_profile, first_transparent, frame_names, read_image
from workbench.data.video.frame_numbers import describe_gaps
from workbench.data.video.inspect import VideoInfo
from workbench.data.video.tracks import COPIED, Track, lost_metadata, storable_tracks
from workbench.data.video.write import ColorMarks, coding_of, is_folder_name
from workbench.data.video.write_frames import TIMESTAMPS
from workbench.errors import VideoError

PRIMARIES = {1: "BT.709", 4: "BT.470M", 5: "BT.470BG", 6: "SMPTE 170M", 7: "SMPTE 240M", 9: "BT.2020", 11: "DCI-P3",
             12: "Display P3"}  # fmt: skip
"""Names of color primaries by their number in ITU-T H.273, table 2."""

TRANSFERS = {1: "BT.709", 4: "gamma 2.2", 5: "gamma 2.8", 6: "SMPTE 170M", 7: "SMPTE 240M", 8: "linear", 11: "xvYCC",
             13: "sRGB", 14: "BT.2020", 15: "BT.2020 (12 bits)"}  # fmt: skip
"""Names of transfer characteristics by their number in ITU-T H.273, table 3."""


@dataclass(frozen=True)
class Treatment:
    """Treatment of one property of a source.

    Attributes:
        outcome: kept as it is, converted, or lost; "noticed" for a property that needs no treatment.
        text: the property, and what becomes of it.
    """

    outcome: Literal["kept", "converted", "lost", "noticed"]
    text: str


@dataclass(frozen=True, kw_only=True)
class TransferPlan:
    """Treatment of every property of a source, and the settings of the writer that follow.

    Attributes:
        treatments: in the order in which they are shown.
        tracks: indices of the streams that are copied.
        pixel_aspect: of the output.
        color: description of the output's colors.
    """

    treatments: tuple[Treatment, ...] = ()
    tracks: frozenset[int] = frozenset()
    pixel_aspect: Fraction = Fraction(1)
    color: ColorMarks = field(default_factory=ColorMarks)

    def texts(self, outcome: str) -> list[str]:
        """Return the texts of one outcome."""
        return [one.text for one in self.treatments if one.outcome == outcome]


def plan_transfer(
    path: Path,
    info: VideoInfo,
    target: Path | None,
    conversion: Conversion,
    *,
    audio: bool = True,
    fps: float | None = None,
) -> TransferPlan:
    """Plan the transfer of a video's properties.

    Args:
        path: the source.
        info: its description.
        target: the output file or folder of frames; None where frames are only read (a scene, a training set).
        conversion: choices of the reader.
        audio: copy audio tracks.
        fps: constant rate to which the output is resampled, or None.

    Raises:
        VideoError: the source needs an option (a background, the treatment of HDR), or the target can store none of its
            audio tracks.
    """
    _check_choices(path, info, conversion)
    tracks, lost = _tracks(path, info, target, audio=audio)
    color = _color(info, conversion)
    treatments = [*_frames(info, conversion), *_colors(info, conversion, target)]
    if target is not None:
        treatments += [*_times(info, target, fps), *_aspect(info, target), *_copied(info, target, tracks, lost)]
    return TransferPlan(
        treatments=tuple(treatments),
        tracks=frozenset(track.index for track in tracks),
        pixel_aspect=info.pixel_aspect,
        color=color,
    )


def plan_folder_transfer(path: Path, target: Path | None, conversion: Conversion) -> TransferPlan:
    """Plan the transfer of a folder of frames.

    Raises:
        VideoError: the folder does not exist, has two images of one frame, or transparent images without a background.
    """
    names, background = frame_names(path), conversion.background
    check_sizes(path)
    treatments = []
    if transparent := first_transparent(path):
        read_image(transparent, background=background)  # raises the error before any work
        treatments.append(Treatment("converted", f"transparent images are composited on the color {background}"))
    if profile := color_profile(path):
        treatments.append(Treatment("lost", f"the ICC profile of the images ({profile}): values are kept, it is not"))
    if gaps := describe_gaps(names):
        numbered = target is not None and is_folder_name(target)
        played = "the output keeps their numbers" if numbered else "the output plays on without a pause"
        treatments.append(Treatment("noticed", f"{gaps}; {played}"))
    return TransferPlan(treatments=tuple(treatments))


def _check_choices(path: Path, info: VideoInfo, conversion: Conversion) -> None:
    if info.alpha and info.codec in ("vp8", "vp9"):
        raise VideoError(
            f"{path}: {info.codec.upper()} with an alpha channel, which is not decoded here; composite it first: "
            f"ffmpeg -c:v libvpx{'-vp9' * (info.codec == 'vp9')} -i {path.name} -c:v prores_ks -profile:v 4444 "
            f"{path.stem}.mov"
        )
    if info.alpha and conversion.background is None:
        raise VideoError(
            f"{path}: has an alpha channel, and no background is given; name a color where the command has "
            "--background, or composite the video first"
        )
    if info.hdr and conversion.hdr == "refuse":
        raise VideoError(f"{path}: HDR ({info.hdr}); choose --hdr tonemap or keep, or convert it to SDR first")


def _tracks(path: Path, info: VideoInfo, target: Path | None, *, audio: bool) -> tuple[list[Track], list[Track]]:
    """Return the tracks that are copied and those that are lost."""
    if target is None or not info.tracks:
        return [], []
    wanted = [track for track in info.tracks if audio or track.kind != "audio"]
    if is_folder_name(target):
        return [], wanted
    storable = storable_tracks(path, wanted, coding_of(target).container)
    lost = [track for track in wanted if track.index not in storable]
    if audio and info.audio and not any(track.index in storable for track in info.audio):
        codecs = ", ".join(sorted({track.codec for track in info.audio}))
        raise VideoError(
            f"{target}: a {target.suffix} file cannot store the audio of {path} ({codecs}); "
            + (f"write {target.stem}.mkv, or " if target.suffix.lower() != ".mkv" else "")
            + "leave the audio out (--audio none)"
        )
    return [track for track in wanted if track.index in storable], lost


def _color(info: VideoInfo, conversion: Conversion) -> ColorMarks:
    if info.hdr:
        return ColorMarks(info.primaries, info.transfer, 9) if conversion.hdr == "keep" else ColorMarks()
    primaries = 1 if info.primaries in (0, UNSPECIFIED) else info.primaries
    transfer = 1 if info.transfer in (0, UNSPECIFIED) else info.transfer
    return ColorMarks(primaries, transfer, 9 if info.matrix == "bt2020" else 1)


def _frames(info: VideoInfo, conversion: Conversion) -> Iterator[Treatment]:
    if info.undecodable:
        seconds = info.undecodable / info.fps
        yield Treatment(
            "lost",
            f"{info.undecodable} frames ({seconds:.2f} s) before the first key frame cannot be decoded",
        )
    if conversion.deinterlace == "on" or (info.field_order and conversion.deinterlace == "auto"):
        order = info.field_order or "not marked as interlaced"
        yield Treatment("converted", f"interlaced frames ({order}) are deinterlaced by bwdif")
    elif info.field_order:
        yield Treatment("lost", f"interlaced frames ({info.field_order}) are taken as whole images (--deinterlace off)")
    if info.rotated:
        yield Treatment("converted", "rotated or mirrored frames are stored upright")
    if info.alpha:
        yield Treatment("converted", f"the alpha channel is composited on the color {conversion.background}")


def _colors(info: VideoInfo, conversion: Conversion, target: Path | None) -> Iterator[Treatment]:
    marked = target is not None and not is_folder_name(target)
    if info.hdr and conversion.hdr == "tonemap":
        yield Treatment("converted", f"HDR ({info.hdr}) is mapped to SDR BT.709 by the EETF of BT.2390 (--hdr)")
    elif info.hdr:
        marks = "in 8 bits with their marks" if marked else "in 8 bits, without marks"
        yield Treatment("kept", f"HDR ({info.hdr}) code values are kept {marks} (--hdr keep)")
    for kind, number, names in (("primaries", info.primaries, PRIMARIES), ("transfer", info.transfer, TRANSFERS)):
        if not info.hdr and number not in (0, 1, UNSPECIFIED):
            name = names.get(number, f"number {number} of H.273")
            if marked:
                yield Treatment("kept", f"color {kind} {name}")
            else:
                yield Treatment("lost", f"color {kind} {name}: values are kept, their mark is not")
    if info.bits > 8:
        yield Treatment("converted", f"{info.bits} bits a sample are rounded to 8")


def _times(info: VideoInfo, target: Path, fps: float | None) -> Iterator[Treatment]:
    if fps is not None:
        yield Treatment("converted", f"frame times are resampled to a constant {fps:.6g} frames/s (--fps)")
    elif is_folder_name(target):
        yield Treatment("kept", f"frame times, in {TIMESTAMPS}")
    elif not info.constant_rate:
        yield Treatment("kept", "variable frame rate")


def _aspect(info: VideoInfo, target: Path) -> Iterator[Treatment]:
    if info.pixel_aspect != 1:
        aspect = f"pixel aspect ratio {info.pixel_aspect.numerator}:{info.pixel_aspect.denominator}"
        if is_folder_name(target):
            yield Treatment("lost", f"{aspect}: PNG files show square pixels")
        elif not coding_of(target).stores_aspect:
            yield Treatment("lost", f"{aspect}: a {target.suffix} shows square pixels; write a .mp4 or .mkv")
        else:
            yield Treatment("kept", aspect)


def _copied(info: VideoInfo, target: Path, tracks: list[Track], lost: list[Track]) -> Iterator[Treatment]:
    for kind, count in Counter(track.kind for track in tracks).items():
        named = ", ".join(str(track).removeprefix(f"{kind} ") for track in tracks if track.kind == kind)
        yield Treatment("kept", f"{count} {kind} track{'s' * (count > 1)} {named}")
    folder = is_folder_name(target)
    if info.chapters:
        text = f"{info.chapters} chapter{'s' * (info.chapters > 1)}"
        yield Treatment("lost" if folder else "kept", text)
    metadata = dict(info.metadata)
    if title := metadata.get("title"):
        yield Treatment("lost" if folder else "kept", f'title "{title}"')
    if not folder and (names := lost_metadata(metadata, coding_of(target).container)):
        yield Treatment("lost", f"metadata {', '.join(names)}: a {target.suffix} file cannot store it")
    for name in dict.fromkeys(info.embedded):
        yield Treatment("lost", f"{name} inside of the frames")
    for track in lost:
        where = "a folder of frames" if folder else f"a {target.suffix} file"
        why = f"{where} cannot store it" if track.kind in COPIED else "only audio, subtitles and attachments are copied"
        yield Treatment("lost", f"{track}: {why}")
