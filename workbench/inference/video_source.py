"""Source of an upscaling: frames, their presentation times, and the properties that the output keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from workbench.data.video.frame_folder import frame_names, stream_frames
from workbench.data.video.inspect import describe_video
from workbench.data.video.read import FOLDER_FPS, Conversion, TimedFrame, VideoReader
from workbench.data.video.timeline import timeline
from workbench.data.video.timestamps import parse_rate, resample
from workbench.data.video.transfer import plan_folder_transfer, plan_transfer
from workbench.data.video.write import VideoWriter, open_writer
from workbench.data.video.write_frames import FrameFolderWriter
from workbench.errors import VideoError


class VideoSource:
    """Source of an upscaling: its frames, their times, and its properties for the writer.

    Attributes:
        index: timestamps of its frames.
        transfer: treatment of its properties.
        promised: number of frames by its header.
        constant: constant rate to which the output is resampled, or None.
        upscaled: number of frames that the network has upscaled so far.
        end: time at which the last of them ends, in seconds.
        fault: reason why frames are missing; None until the end has been reached.
        ends_early: damage was reported, so that there are no frames after the last one.
    """

    def __init__(
        self, path: Path, target: Path, conversion: Conversion, *, audio: bool, fps: float | None, on_damage: str
    ) -> None:
        self._path, self._target = path, target
        self._times: deque[tuple[Fraction, Fraction]] = deque()
        self.fault: str | None = None
        self._last = Fraction(-1)
        self.upscaled, self.end, self.ends_early = 0, Fraction(0), False
        self.index = timeline(path)
        self.promised = self.index.promised or len(self.index)
        rate = None if fps is None else parse_rate(fps)
        self._file: VideoReader | None = None
        self.constant: Fraction | None = None
        if path.is_dir():
            self._rate, self._background = rate or Fraction(FOLDER_FPS), conversion.background
            self.transfer = plan_folder_transfer(path, target, conversion)
        else:
            info = describe_video(path, self.index)
            self.constant = rate
            self.transfer = plan_transfer(path, info, target, conversion, audio=audio, fps=fps)
            self._file = VideoReader(
                path, on_damage="skip" if on_damage == "skip" else "keep", conversion=conversion,
                origin=self.index.origin,
            )  # fmt: skip

    @property
    def interlaced(self) -> int:
        """Frames that are marked as interlaced."""
        return self._file.interlaced if self._file else 0

    @property
    def missing_seconds(self) -> tuple[tuple[float | None, float | None], ...]:
        """Start and end of each gap by damage."""
        return tuple(self._file.missing_seconds) if self._file and self.fault else ()

    def images(self) -> Iterator[np.ndarray]:
        """Yield every frame up to the end or to the damage; raise the error if there is none."""
        number = 0
        try:
            for frame in self._frames():
                number += 1
                self._times.append((frame.start, frame.duration))
                yield frame.image
        except VideoError as error:
            if not number:
                raise
            self.fault, self.ends_early = str(error), True
            return
        if self._file is None:
            return
        fault = self._file.decoding.fault or self.index.fault
        self.ends_early = fault is not None
        if fault is None and number + self._skipped < len(self.index):
            fault = f"{len(self.index) - number - self._skipped} frames could not be decoded"
        if fault is not None:
            self.fault = f"{self._path}: {fault}"

    def _frames(self) -> Iterator[TimedFrame]:
        """Yield frames; count those before the first one that the decoder left out."""
        self._skipped = 0
        if self._file is None:
            for number, image in enumerate(stream_frames(self._path, background=self._background)):
                yield TimedFrame(image, number / self._rate, 1 / self._rate)
            return
        for number, frame in enumerate(self._file.frames()):
            if number == 0:
                ticks = self._file.ticks_of(frame.start)
                self._skipped = int(np.searchsorted(self.index.ticks, ticks))
            self._last = max(frame.start, Fraction(0), self._last + (self._last >= 0) * self._file.decoding.time_base)
            yield frame._replace(start=self._last)

    def timed(self, images: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, Fraction, Fraction]]:
        """Combine the outputs of the network with their times; resample them to the constant rate, if one is set."""
        frames = self._with_times(images)
        return frames if self.constant is None else resample(frames, self.constant)

    def _with_times(self, images: Iterator[np.ndarray]) -> Iterator[TimedFrame]:
        for image in images:
            frame = TimedFrame(image, *self._times.popleft())
            self.upscaled, self.end = self.upscaled + 1, frame.start + frame.duration
            yield frame

    def open_writer(self) -> VideoWriter | FrameFolderWriter:
        """Open the output."""
        file = self._file
        rate = self.constant or (self._rate if file is None else Fraction(self.index.fps).limit_denominator(100_000))
        return open_writer(
            self._target,
            fps=rate,
            names=frame_names(self._path) if file is None else (),
            timestamps=file is not None,
            tracks_from=None if file is None else self._path,
            tracks=self.transfer.tracks,
            tracks_origin=self.index.origin,
            variable=file is not None and self.constant is None and not self.index.constant,
            time_base=1 / rate if file is None or self.constant else self.index.time_base,
            pixel_aspect=self.transfer.pixel_aspect,
            color=self.transfer.color,
        )
