"""Scene folder: one clip as several methods render it, for the viewer.

::

    scene.json                              methods, size, rate, curves with units, overlays, protocol, provenance
    frames/<method>/<index>.webp            lossless, five digits
    overlays/<kind>/<method>/<index>.webp   8-bit gray: value = vmin + gray / 255 * (vmax - vmin)
    arrays.npz                              raw numbers of every overlay

It is written atomically and read without torch. A training snapshot is a scene too.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
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

from workbench.aliases import OVERLAY, PROVENANCE, SCENE_PROTOCOL, renamed
from workbench.atomic_files import write_atomic
from workbench.errors import FolderError, ShapeError

FORMAT = 2
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
"""Valid names of runs, scenes, methods and overlays: they become folder names and parts of an address."""


def check_name(name: str, kind: str = "name") -> str:
    """Return ``name`` if it is a valid folder name on every system, else raise :class:`FolderError`."""
    if not NAME.fullmatch(name) or name.endswith("."):
        raise FolderError(
            f"{kind} {name!r}: want 1 to 64 letters, digits, '_', '-' or '.', beginning with a letter or digit"
        )
    return name


@dataclass(frozen=True, kw_only=True)
class Method:
    """Method that rendered the clip.

    Attributes:
        key: folder name under ``frames/``; ``low``, ``high``, ``bicubic``, ``teacher``, ``student``, ``plain`` and
            ``distilled`` have fixed colors in the viewer.
        label: text for people.
        note: one line about its origin (weights, training step).
    """

    key: str
    label: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Curve: one number a frame and method.

    Attributes:
        key: for example ``psnr_y_db``.
        label: text for people.
        unit: ``dB``, ``px``, ``8-bit levels`` or empty.
        better: ``higher`` or ``lower``.
        series: method key -> one number a frame; ``None`` where the number does not exist (the first frame of a
            temporal metric, or PSNR of equal frames).
    """

    key: str
    label: str
    unit: str
    better: str
    series: Mapping[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Map over the frames of one method: attention map or memory cells.

    Attributes:
        kind: folder name under ``overlays/``; maps of one kind share one scale and can be compared.
        label: text for people.
        method: key of its method.
        vmin: value of gray 0.
        vmax: value of gray 255.
        channels: number of maps stacked from top to bottom in each image (the hidden channels of the ConvLSTM).
        diverging: zero is the middle of the scale (``vmin == -vmax``), to be drawn with two colors.
        array: its name in ``arrays.npz``; axes ``(T, H, W)`` or ``(T, channels, H, W)``, float16.
        explain: one sentence for the legend.
    """

    kind: str
    label: str
    method: str
    vmin: float
    vmax: float
    channels: int = 1
    diverging: bool = False
    array: str = ""
    explain: str = ""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Content of ``scene.json``; frames and arrays are read on demand from ``folder``.

    Attributes:
        frames: number of frames.
        fps: frames a second, on average.
        times_seconds: start of each frame and end of the last, ``frames + 1`` numbers; empty where frames follow
            ``fps``.
        pixel_aspect: width of a pixel over its height.
        protocol: of the scores (degradation, channel, border that is cropped).
        provenance: data, license, weights, versions, seed.
        folders: method -> folder of its files, where that is not ``folder`` (see :func:`merge_scenes`).
        sides: methods that the lens shows first, left and right; empty: those of the lens.
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
    folders: Mapping[str, Path] = field(default_factory=dict)
    sides: tuple[str, ...] = ()

    def without(self, key: str) -> Scene:
        """Return the scene without one of its methods, or unchanged where it has no such method."""
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
        """Return the method called ``key``."""
        for method in self.methods:
            if method.key == key:
                return method
        raise FolderError(f"scene {self.name}: no method {key!r}; there are {', '.join(m.key for m in self.methods)}")

    def frame_path(self, method: str, index: int) -> Path:
        """Return the path of the image of one frame."""
        return self._folder_of(method) / "frames" / method / f"{index:05d}.webp"

    def overlay_path(self, overlay: Overlay, index: int) -> Path:
        """Return the path of the gray image of one overlay and frame."""
        return self._folder_of(overlay.method) / "overlays" / overlay.kind / overlay.method / f"{index:05d}.webp"

    def frame(self, method: str, index: int) -> np.ndarray:
        """Return a frame as it was scored: uint8 ``(H, W, 3)``."""
        with Image.open(self.frame_path(method, index)) as image:
            return np.asarray(image.convert("RGB"))

    def clip(self, method: str) -> np.ndarray:
        """Return all frames of one method: uint8 ``(T, H, W, 3)``."""
        return np.stack([self.frame(method, index) for index in range(self.frames)])

    def array(self, overlay: Overlay) -> np.ndarray:
        """Return the raw numbers of an overlay, float16 ``(T, H, W)`` or ``(T, channels, H, W)``."""
        with np.load(self._folder_of(overlay.method) / "arrays.npz", allow_pickle=False) as arrays:
            return arrays[overlay.array]

    def _folder_of(self, method: str) -> Path:
        return self.folders.get(method, self.folder)


class SceneWriter:
    """Writer of a scene into a hidden folder, which :func:`write_scene` renames when the scene is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays: dict[str, np.ndarray] = {}
        self._methods: list[Method] = []
        self._overlays: list[Overlay] = []
        self._curves: dict[str, Curve] = {}
        self._size: tuple[int, int, int] | None = None
        self._pool = ThreadPoolExecutor(2)

    def add_method(self, method: Method, frames: np.ndarray, *, compression: int = 0) -> None:
        """Write the frames of one method, uint8 ``(T, H, W, 3)``, as lossless WebP.

        Args:
            method: that rendered them.
            frames: every method has the same number; ``low`` may be smaller in size.
            compression: 0 (fast) to 6 (a tenth smaller, twenty times slower: for shipped scenes).
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
        folder = self.folder / "frames" / method.key
        folder.mkdir(parents=True)
        self._write(
            folder, [(frame, {"method": compression, "quality": 100 if compression else 0}) for frame in frames]
        )
        self._methods.append(method)

    def add_curve(self, key: str, label: str, unit: str, better: str, method: str, values: np.ndarray) -> None:
        """Add one method's numbers, one a frame, to the curve called ``key``; infinite and NaN become ``None``."""
        numbers = [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
        known = self._curves.get(key)
        series = dict(known.series) if known else {}
        self._curves[key] = Curve(key=key, label=label, unit=unit, better=better, series=series | {method: numbers})

    def add_overlay(self, overlay: Overlay, values: np.ndarray) -> None:
        """Write a map per frame: float ``(T, H, W)``, or ``(T, channels, H, W)`` stacked from top to bottom.

        Values outside ``[vmin, vmax]`` are drawn at the end of the scale; ``arrays.npz`` has the raw numbers.
        """
        check_name(overlay.kind, "overlay")
        check_name(overlay.method, "method")
        name = f"{overlay.kind}.{overlay.method}"
        stacked = values.reshape(len(values), -1, values.shape[-1]).astype(np.float32)
        span = (overlay.vmax - overlay.vmin) or 1.0
        gray = np.nan_to_num((stacked - overlay.vmin) / span * 255, nan=0.0).clip(0, 255).round().astype(np.uint8)
        folder = self.folder / "overlays" / overlay.kind / overlay.method
        folder.mkdir(parents=True)
        self._write(folder, [(frame, {"method": 0, "quality": 0}) for frame in gray])
        self._arrays[name] = values.astype(np.float16)
        channels = values.shape[1] if values.ndim == 4 else 1
        self._overlays.append(Overlay(**(asdict(overlay) | {"array": name, "channels": channels})))

    def add_array(self, name: str, values: np.ndarray) -> None:
        """Add further raw numbers to ``arrays.npz``."""
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

    def _write(self, folder: Path, images: list[tuple[np.ndarray, dict[str, int]]]) -> None:
        def save(index: int) -> None:
            image, options = images[index]
            Image.fromarray(image).save(folder / f"{index:05d}.webp", "WEBP", lossless=True, **options)

        list(self._pool.map(save, range(len(images))))  # list(): raise errors of the threads here

    def close(self) -> None:
        """End the writing threads."""
        self._pool.shutdown()


@contextmanager
def write_scene(folder: Path, *, replace: bool = False) -> Iterator[SceneWriter]:
    """Write a scene under a hidden name, and rename it when the block ends without an error.

    Args:
        folder: of the scene.
        replace: overwrite an existing scene.

    Raises:
        FolderError: the folder exists and ``replace`` is off.
    """
    if folder.exists() and not replace:
        raise FolderError(f"{folder}: exists already; choose another name, or replace it")
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
    """Read a scene.

    Raises:
        FolderError: not a scene, half written, or written by a newer version.
    """
    path = folder / "scene.json"
    if not path.is_file():
        raise FolderError(f"{folder}: no scene.json here; `workbench compare` writes scenes")
    try:
        record = json.loads(path.read_text())
        if record["format"] not in (1, FORMAT):
            raise FolderError(f"{path}: format: want 1 or {FORMAT}, got {record['format']!r}; update the workbench")
        methods = tuple(Method(**method) for method in record["methods"])
        overlays = tuple(Overlay(**renamed(overlay, OVERLAY)) for overlay in record["overlays"])
        for name in [m.key for m in methods] + [o.kind for o in overlays] + [o.method for o in overlays]:
            check_name(name, "scene entry")
        plain = ("name", "title", "width", "height", "frames", "fps")
        return Scene(
            folder=folder,
            **{name: record[name] for name in plain},
            protocol=renamed(record["protocol"], SCENE_PROTOCOL),
            provenance=renamed(dict(record["provenance"]), PROVENANCE),
            methods=methods,
            overlays=overlays,
            curves=tuple(Curve(**curve) for curve in record["curves"]),
            times_seconds=_times(record),
            pixel_aspect=_aspect(record),
            sides=tuple(check_name(side, "side") for side in record.get("sides", ())),
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
    """Merge several scenes of the same clip into one: methods, curves and overlays; the files stay in their folders.

    A training snapshot (the student at a step) is merged with the scene of the ground truth, bicubic and the teacher,
    which is stored once a run.
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
    return replace(
        first,
        name=name,
        title=title,
        methods=tuple(m for scene in scenes for m in scene.methods),
        curves=tuple(curves.values()),
        overlays=tuple(o for scene in scenes for o in scene.overlays),
        provenance={**first.provenance, **scenes[-1].provenance},
        folders={m.key: scene._folder_of(m.key) for scene in scenes for m in scene.methods},
    )


def list_scenes(root: Path) -> list[str]:
    """Return the names of the scenes under a folder, sorted; hidden and incomplete ones are left out."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if NAME.fullmatch(p.name) and (p / "scene.json").is_file())
