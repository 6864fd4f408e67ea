"""The scene folder: one clip as several methods render it, ready to look at.

::

    scene.json                              methods, size, rate, curves with units, overlays, protocol, provenance
    frames/<method>/<index>.webp            lossless, five digits
    overlays/<kind>/<method>/<index>.webp   8-bit grey: value = low + grey / 255 * (high - low)
    arrays.npz                              the raw numbers behind every overlay

Written whole or not at all; read without torch. A training snapshot is a scene too.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workbench.errors import FolderError, ShapeError

FORMAT = 1
WAITS_FOR_READERS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between the tries to replace a file that is being read."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
"""What a run, scene, method or overlay may be called: it becomes a folder name and part of an address."""


def check_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it can be a folder name on every system, or say what it may hold."""
    if not NAME.fullmatch(name) or name.endswith("."):
        raise FolderError(
            f"{what} {name!r}: want 1 to 64 letters, digits, '_', '-' or '.', beginning with a letter or digit"
        )
    return name


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, finds the old content or the new, never half."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Move a file onto another; on Windows that fails for the moment in which another process reads the other."""
    waits = WAITS_FOR_READERS if sys.platform == "win32" else ()
    for seconds in waits:
        try:
            return os.replace(partial, path)
        except PermissionError:
            time.sleep(seconds)
    os.replace(partial, path)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way the clip was rendered.

    Attributes:
        key: folder name under ``frames/``; ``low``, ``high``, ``bicubic``, ``teacher``, ``student``, ``plain`` and
            ``distilled`` have fixed colours in the viewer.
        label: what a person reads.
        note: where it comes from, in one line (weights, training step).
    """

    key: str
    label: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number per frame and method.

    Attributes:
        key: for example ``psnr_y_db``.
        label: what a person reads.
        unit: ``dB``, ``px``, ``8-bit levels`` or empty.
        better: ``higher`` or ``lower``.
        series: method key -> one number a frame; ``None`` where the number does not exist (the first frame of a
            temporal metric, or PSNR of equal pictures).
    """

    key: str
    label: str
    unit: str
    better: str
    series: Mapping[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A map that lies over the pictures of one method: where it looks, or what it remembers.

    Attributes:
        kind: folder name under ``overlays/``; maps of one kind share one scale and can be compared.
        label: what a person reads.
        method: the method it belongs to.
        low: value of grey 0.
        high: value of grey 255.
        channels: how many maps are stacked from top to bottom in each picture (the hidden channels of a memory).
        diverging: zero is the middle of the scale (``low == -high``), to be drawn with two colours.
        array: its name in ``arrays.npz``; axes ``(T, H, W)`` or ``(T, channels, H, W)``, float16.
        explain: one sentence for the legend.
    """

    kind: str
    label: str
    method: str
    low: float
    high: float
    channels: int = 1
    diverging: bool = False
    array: str = ""
    explain: str = ""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What ``scene.json`` says; pictures and arrays are read on demand from ``folder``.

    Attributes:
        frames: how many.
        fps: frames a second, on average.
        times_seconds: start of each frame and end of the last, ``frames + 1`` numbers; empty where frames follow
            ``fps``.
        pixel_aspect: width of a pixel over its height.
        protocol: how the scores were made (degradation, channel, crop), in words and numbers.
        provenance: data, licence, weights, versions, seed.
        homes: method -> the folder that holds its files, where that is not ``folder`` (see :func:`merge_scenes`).
    """

    folder: Path
    name: str
    title: str
    width: int
    height: int
    frames: int
    fps: float
    methods: tuple[Method, ...]
    curves: tuple[Curve, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    times_seconds: tuple[float, ...] = ()
    pixel_aspect: Fraction = Fraction(1)
    homes: Mapping[str, Path] = field(default_factory=dict)

    def without(self, key: str) -> Scene:
        """Return the scene without one of its methods, or as it is where it has no such method."""
        return replace(
            self,
            methods=tuple(method for method in self.methods if method.key != key),
            overlays=tuple(overlay for overlay in self.overlays if overlay.method != key),
            curves=tuple(
                replace(curve, series={name: values for name, values in curve.series.items() if name != key})
                for curve in self.curves
            ),
        )

    def timing(self, index: int) -> tuple[float, float]:
        """Return start and duration of a frame in seconds."""
        if not self.times_seconds:
            return index / self.fps, 1 / self.fps
        return self.times_seconds[index], self.times_seconds[index + 1] - self.times_seconds[index]

    def method(self, key: str) -> Method:
        """The method called ``key``."""
        for method in self.methods:
            if method.key == key:
                return method
        raise FolderError(f"scene {self.name}: no method {key!r}; there are {', '.join(m.key for m in self.methods)}")

    def frame_path(self, method: str, index: int) -> Path:
        """Where the picture of one frame lies."""
        return self._home(method) / "frames" / method / f"{index:05d}.webp"

    def overlay_path(self, overlay: Overlay, index: int) -> Path:
        """Where the grey picture of one overlay and frame lies."""
        return self._home(overlay.method) / "overlays" / overlay.kind / overlay.method / f"{index:05d}.webp"

    def frame(self, method: str, index: int) -> np.ndarray:
        """The picture that was scored: uint8 ``(H, W, 3)``."""
        with Image.open(self.frame_path(method, index)) as picture:
            return np.asarray(picture.convert("RGB"))

    def clip(self, method: str) -> np.ndarray:
        """All pictures of one method: uint8 ``(T, H, W, 3)``."""
        return np.stack([self.frame(method, index) for index in range(self.frames)])

    def array(self, overlay: Overlay) -> np.ndarray:
        """The raw numbers behind an overlay, float16 ``(T, H, W)`` or ``(T, channels, H, W)``."""
        with np.load(self._home(overlay.method) / "arrays.npz", allow_pickle=False) as arrays:
            return arrays[overlay.array]

    def _home(self, method: str) -> Path:
        return self.homes.get(method, self.folder)


class SceneWriter:
    """Collects the parts of a scene in a hidden folder; :func:`write_scene` shows it when it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays: dict[str, np.ndarray] = {}
        self._methods: list[Method] = []
        self._overlays: list[Overlay] = []
        self._curves: dict[str, Curve] = {}
        self._size: tuple[int, int, int] | None = None
        self._pool = ThreadPoolExecutor(2)

    def add_method(self, method: Method, frames: np.ndarray, *, compression: int = 0) -> None:
        """Write the pictures of one method, uint8 ``(T, H, W, 3)``, as lossless WebP.

        Args:
            method: who rendered them.
            frames: the pictures; every method has the same number, ``low`` may be smaller in size.
            compression: effort of the compression: 0 (fast) to 6 (a tenth smaller, twenty times slower).
        """
        check_name(method.key, "method")
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ShapeError(f"frames of {method.key}: want uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")
        count, height, width = frames.shape[:3]
        if method.key != "low":
            if self._size not in (None, (count, height, width)):
                raise ShapeError(
                    f"frames of {method.key}: want {self._size} frames, rows, columns, got {frames.shape[:3]}"
                )
            self._size = (count, height, width)
        home = self.folder / "frames" / method.key
        home.mkdir(parents=True)
        self._write(home, [(frame, {"method": compression, "quality": 100 if compression else 0}) for frame in frames])
        self._methods.append(method)

    def add_curve(self, key: str, label: str, unit: str, better: str, method: str, values: np.ndarray) -> None:
        """Add one method's numbers, one a frame, to the curve called ``key``; infinite and NaN become ``None``."""
        numbers = [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
        known = self._curves.get(key)
        series = dict(known.series) if known else {}
        self._curves[key] = Curve(key=key, label=label, unit=unit, better=better, series=series | {method: numbers})

    def add_overlay(self, overlay: Overlay, values: np.ndarray) -> None:
        """Write a map per frame: float ``(T, H, W)``, or ``(T, channels, H, W)`` stacked from top to bottom.

        Values outside ``[low, high]`` are drawn at the end of the scale; the raw numbers stay in ``arrays.npz``.
        """
        check_name(overlay.kind, "overlay")
        check_name(overlay.method, "method")
        name = f"{overlay.kind}.{overlay.method}"
        stacked = values.reshape(len(values), -1, values.shape[-1]).astype(np.float32)
        span = (overlay.high - overlay.low) or 1.0
        grey = np.nan_to_num((stacked - overlay.low) / span * 255, nan=0.0).clip(0, 255).round().astype(np.uint8)
        home = self.folder / "overlays" / overlay.kind / overlay.method
        home.mkdir(parents=True)
        self._write(home, [(frame, {"method": 0, "quality": 0}) for frame in grey])
        self._arrays[name] = values.astype(np.float16)
        channels = values.shape[1] if values.ndim == 4 else 1
        self._overlays.append(Overlay(**(asdict(overlay) | {"array": name, "channels": channels})))

    def add_array(self, name: str, values: np.ndarray) -> None:
        """Keep further raw numbers in ``arrays.npz``."""
        self._arrays[name] = values

    def finish(
        self,
        *,
        name: str,
        title: str,
        fps: float,
        protocol: Mapping[str, Any],
        provenance: Mapping[str, Any],
        times_seconds: Sequence[float] = (),
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Write ``arrays.npz`` and, last, ``scene.json``; arguments as in :class:`Scene`."""
        if self._size is None:
            raise FolderError(f"scene {name}: no method was added")
        count, height, width = self._size
        if self._arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **self._arrays)  # pyright: ignore[reportArgumentType]
            write_atomic(self.folder / "arrays.npz", buffer.getvalue())
        record = {
            "format": FORMAT,
            "name": name,
            "title": title,
            "width": width,
            "height": height,
            "frames": count,
            "fps": fps,
            "methods": [asdict(method) for method in self._methods],
            "curves": [asdict(curve) for curve in self._curves.values()],
            "overlays": [asdict(overlay) for overlay in self._overlays],
            "protocol": dict(protocol),
            "provenance": dict(provenance),
        }
        if times_seconds:
            record["times_seconds"] = list(times_seconds)
        if pixel_aspect != 1:
            record["pixel_aspect"] = str(pixel_aspect)
        write_atomic(self.folder / "scene.json", json.dumps(record, indent=1, allow_nan=False))

    def _write(self, home: Path, pictures: list[tuple[np.ndarray, dict[str, int]]]) -> None:
        def save(index: int) -> None:
            picture, options = pictures[index]
            Image.fromarray(picture).save(home / f"{index:05d}.webp", "WEBP", lossless=True, **options)

        list(self._pool.map(save, range(len(pictures))))  # list(): raise here what went wrong there

    def close(self) -> None:
        """Let the writing threads go."""
        self._pool.shutdown()


@contextmanager
def write_scene(folder: Path, *, replace: bool = False) -> Iterator[SceneWriter]:
    """Write a scene under a hidden name, and give it its own when the block ends without an error.

    Args:
        folder: where the scene shall be.
        replace: overwrite a scene that is there.

    Raises:
        FolderError: something is there already and ``replace`` is off.
    """
    if folder.exists() and not replace:
        raise FolderError(f"{folder}: there is something already; choose another name or ask to replace it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    writer = SceneWriter(hidden)
    try:
        yield writer
        writer.close()
        if not (hidden / "scene.json").exists():
            raise FolderError(f"{folder.name}: the scene was not finished")
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            hidden.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            hidden.rename(folder)
    finally:
        writer.close()
        shutil.rmtree(hidden, ignore_errors=True)


def read_scene(folder: Path) -> Scene:
    """Read what ``scene.json`` says.

    Raises:
        FolderError: not a scene, half written, or written by a newer version.
    """
    path = folder / "scene.json"
    if not path.is_file():
        raise FolderError(f"{folder}: no scene.json here; `workbench compare` writes scenes")
    try:
        record = json.loads(path.read_text())
        if record["format"] != FORMAT:
            raise FolderError(f"{path}: format {record['format']!r}, this version reads {FORMAT}; update the workbench")
        methods = tuple(Method(**method) for method in record["methods"])
        overlays = tuple(Overlay(**overlay) for overlay in record["overlays"])
        for name in [m.key for m in methods] + [o.kind for o in overlays] + [o.method for o in overlays]:
            check_name(name, "scene entry")
        return Scene(
            folder=folder,
            name=record["name"],
            title=record["title"],
            width=record["width"],
            height=record["height"],
            frames=record["frames"],
            fps=record["fps"],
            methods=methods,
            overlays=overlays,
            curves=tuple(Curve(**curve) for curve in record["curves"]),
            protocol=record["protocol"],
            provenance=record["provenance"],
            times_seconds=_times(record),
            pixel_aspect=_aspect(record),
        )
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        if isinstance(error, FolderError):
            raise
        raise FolderError(f"{path}: not a readable scene ({type(error).__name__}: {error})") from error


def _times(record: Mapping[str, Any]) -> tuple[float, ...]:
    times = tuple(float(second) for second in record.get("times_seconds", ()))
    if times and not (len(times) == record["frames"] + 1 and all(a < b for a, b in pairwise(times)) and times[0] >= 0):
        raise ValueError(f"times_seconds: want {record['frames'] + 1} ascending numbers, got {len(times)}")
    return times


def _aspect(record: Mapping[str, Any]) -> Fraction:
    aspect = Fraction(record.get("pixel_aspect", "1"))
    if not 0 < aspect < 100:
        raise ValueError(f"pixel_aspect: want a ratio above 0 and below 100, got {aspect}")
    return aspect


def merge_scenes(name: str, title: str, *scenes: Scene) -> Scene:
    """Several scenes of the same clip as one: methods, curves and overlays side by side, files left where they are.

    This is how a training snapshot (the student at a step) is seen together with what does not change (ground truth,
    bicubic, teacher): those pictures are stored once a run.
    """
    first = scenes[0]
    for scene in scenes[1:]:
        if (scene.width, scene.height, scene.frames) != (first.width, first.height, first.frames):
            raise FolderError(f"{scene.name} and {first.name} are not the same clip: sizes or frame counts differ")
    curves: dict[str, Curve] = {}
    for curve in (curve for scene in scenes for curve in scene.curves):
        known = curves.get(curve.key)
        series = {**known.series, **curve.series} if known else curve.series
        curves[curve.key] = replace(curve, series=series)
    return Scene(
        folder=first.folder,
        name=name,
        title=title,
        width=first.width,
        height=first.height,
        frames=first.frames,
        fps=first.fps,
        times_seconds=first.times_seconds,
        pixel_aspect=first.pixel_aspect,
        methods=tuple(m for scene in scenes for m in scene.methods),
        curves=tuple(curves.values()),
        overlays=tuple(o for scene in scenes for o in scene.overlays),
        protocol=first.protocol,
        provenance={**first.provenance, **scenes[-1].provenance},
        homes={m.key: scene._home(m.key) for scene in scenes for m in scene.methods},
    )


def list_scenes(root: Path) -> list[str]:
    """Names of the scenes under a folder, in alphabetical order; hidden and half-written ones are left out."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if NAME.fullmatch(p.name) and (p / "scene.json").is_file())


__all__ = [
    "FORMAT",
    "Curve",
    "Method",
    "Overlay",
    "Scene",
    "SceneWriter",
    "check_name",
    "list_scenes",
    "merge_scenes",
    "read_scene",
    "write_atomic",
    "write_scene",
]
