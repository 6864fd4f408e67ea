"""Networks in ONNX files by :mod:`workbench.onnx.export`, computed by ONNX Runtime or OpenVINO.

The metadata of such a file (scale, frames of a window, border rule ...) makes it a network like any other: it upscales
videos, is scored and timed. Its graph is one of three:

============ ================================================ ==========================================
``windows``  clip (B, T, 3, H, W), windows (n, frames)        frames (B, n, 3, s*H, s*W)
``window``   clip (1, frames, 3, H, W)                        frames (1, 1, 3, s*H, s*W), the middle one
``clip``     clip (B, T, 3, H, W), T fixed if ``frames`` is   frames (B, T, 3, s*H, s*W)
============ ================================================ ==========================================

``windows`` are the indices in ``clip`` of the frames of each window, int64: for windows of three with replicated
borders [0, 0, 1], [0, 1, 2], [1, 2, 3] ... (:func:`workbench.models.windows.window_indices`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from workbench import DISTRIBUTION
from workbench.aliases import ONNX, renamed
from workbench.choices import Border, FeatureLayer
from workbench.errors import ConfigError, ShapeError, WeightsError
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.settings import from_json
from workbench.weight_files import check_weight_file

METADATA_KEY, FORMAT = "workbench", 2
Graph = Literal["windows", "window", "clip"]
Runtime = Literal["onnx", "openvino"]


def import_optional(module: str) -> Any:
    """Import a module of the extra ``export``.

    Raises:
        ConfigError: it is not installed; the message contains the command to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} is not installed; exported networks need: pip install '{DISTRIBUTION}[export]', or: "
            "pip install onnx onnxruntime openvino"
        ) from error


@dataclass(frozen=True, kw_only=True)
class OnnxMetadata:
    """Metadata of an exported network.

    Attributes:
        name: of the network in the zoo, or of its class.
        graph: see the module.
        scale: upsampling factor.
        num_frames: of a window.
        frames: number of frames of a clip; None for any.
        size: height and width of a clip; None for any.
        temporal_radius: frames before and after that one output frame depends on; None for the whole clip.
        border: rule beyond the ends of a clip.
        precision: ``fp32``, ``fp16`` or ``int8``.
    """

    name: str
    graph: Graph
    scale: int
    num_frames: int
    frames: int | None
    size: tuple[int, int] | None = None
    temporal_radius: int | None
    border: Border
    precision: str

    def __post_init__(self) -> None:
        numbers = (self.scale, self.num_frames, self.frames or 1, (self.temporal_radius or 0) + 1)
        if not all(1 <= number <= 10_000 for number in numbers):
            raise ConfigError(f"metadata: want numbers from 1 to 10,000, got {numbers}")

    def to_json(self) -> str:
        """Return the metadata as stored in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def parse(cls, text: str, path: Path) -> OnnxMetadata:
        """Parse the metadata of a file; format 1 is read too.

        Raises:
            WeightsError: not a result of :meth:`to_json`.
        """
        try:
            stored = renamed(json.loads(text), ONNX)
            if stored["format"] not in (1, FORMAT):
                raise ValueError(f"format {stored['format']}")
            return from_json(cls, stored)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(f"{path}: damaged metadata ({error}); export it again") from error


class _Session(ABC):
    """A file that a runtime has loaded."""

    runtime = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; `workbench export` writes one")
        check_weight_file(path)

    def _read_metadata(self, stored: str | None) -> None:
        if stored is None:
            raise WeightsError(f"{self._path}: want a file by `workbench export`, got one without its metadata")
        self.metadata = OnnxMetadata.parse(stored, self._path)
        name, precision = self.metadata.name, self.metadata.precision
        self.recipe = {"name": name, "runtime": self.runtime, "precision": precision}

    def run(self, clip: Tensor, windows: Tensor | None = None) -> Tensor:
        size = self.metadata.size
        if size is not None and tuple(clip.shape[-2:]) != size:
            raise ShapeError(
                f"clip: want {size[1]}x{size[0]}, the size of {self._path.name}, got {clip.shape[-1]}x"
                f"{clip.shape[-2]}; export the network again with that --size, or use the network itself"
            )
        feeds = {"clip": clip.detach().to("cpu", torch.float32).contiguous().numpy()}
        if windows is not None:
            feeds["windows"] = windows.cpu().numpy()
        try:
            frames = self._compute(feeds)
        except Exception as error:  # the errors of the runtimes share no base
            size = "x".join(map(str, clip.shape))
            raise WeightsError(f"{self._path}: fails on a clip of {size}: {_first_line(error)[:300]}") from error
        return torch.from_numpy(frames).to(clip.device)

    @abstractmethod
    def _compute(self, feeds: dict[str, np.ndarray]) -> np.ndarray: ...


class _OnnxRuntime(_Session):
    """Session of ONNX Runtime."""

    runtime = "ONNX Runtime"

    def __init__(self, path: Path, threads: int) -> None:
        runtime = import_optional("onnxruntime")
        super().__init__(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # no warning for every variable dimension; errors are raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves the cores to other programs
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in runtime.get_available_providers()]
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its errors share no base of their own
            raise WeightsError(f"{path}: not a network that ONNX Runtime can read ({_first_line(error)})") from error
        self._read_metadata(self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY))

    def _compute(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        (frames,) = self._session.run(["frames"], feeds)
        return frames


class _OpenVINO(_Session):
    """Network compiled by OpenVINO for the CPU, in float32 also where the CPU has bf16."""

    runtime = "OpenVINO"

    def __init__(self, path: Path, threads: int) -> None:
        openvino = import_optional("openvino")
        super().__init__(path)
        try:
            core = openvino.Core()
            model = core.read_model(str(path))
            options = {
                "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"
            }  # fmt: skip
            self._compiled = core.compile_model(model, "CPU", options)
        except Exception as error:  # its errors share no base of their own
            raise WeightsError(f"{path}: not a network that OpenVINO can read ({_first_line(error)})") from error
        place = ["framework", METADATA_KEY]  # where OpenVINO keeps the properties of an ONNX file
        self._read_metadata(str(model.get_rt_info(place).value) if model.has_rt_info(place) else None)

    def _compute(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        return self._compiled(feeds)["frames"]


RUNTIMES: dict[Runtime, Callable[[Path, int], _Session]] = {"onnx": _OnnxRuntime, "openvino": _OpenVINO}
"""Sessions by runtime."""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class ExportedWindows(SlidingWindow):
    """Sliding window that a runtime computes, one window after the other, which suits the caches of a CPU."""

    scales = (1, 2, 3, 4)

    def __init__(self, session: _Session) -> None:
        metadata = session.metadata
        super().__init__(scale=metadata.scale, num_frames=metadata.num_frames, border=metadata.border, skip="none")
        self._session, self.metadata = session, metadata
        self.recipe = session.recipe

    def _upscale(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None) -> Upscaled:
        return Upscaled(torch.cat([self._window(clip, window) for window in windows.cpu()], dim=1))

    def _window(self, clip: Tensor, window: Tensor) -> Tensor:
        if self.metadata.graph == "window":
            return torch.cat([self._session.run(one[None, window.to(clip.device)]) for one in clip])
        needed, places = window.unique(return_inverse=True)
        return self._session.run(clip[:, needed.to(clip.device)], places[None])


class ExportedClips(VideoSR):
    """Any other network that a runtime computes."""

    scales = (1, 2, 3, 4)

    def __init__(self, session: _Session) -> None:
        metadata = session.metadata
        super().__init__(scale=metadata.scale)
        self._session, self.metadata = session, metadata
        self.num_frames, self.temporal_radius = metadata.num_frames, metadata.temporal_radius
        self.recipe = session.recipe

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; no features are returned.

        Raises:
            ShapeError: not the number of frames that the graph needs.
        """
        _, frames, _, _, _ = self.check_input(clip, return_features)
        fixed = self.metadata.frames
        if fixed is not None and frames != fixed:
            raise ShapeError(
                f"clip: want {fixed} frames, got {frames}: a network that carries a state along the clip is unrolled "
                "when it is exported. Cut the clip, export again with another --frames, or use the network itself"
            )
        return Upscaled(self._session.run(clip))


def open_exported(
    path: str | Path, *, runtime: Runtime = "onnx", threads: int | None = None
) -> ExportedWindows | ExportedClips:
    """Open an ``.onnx`` file by ``workbench export``.

    ONNX Runtime computes on the CPU, or on CUDA if it is installed for it; OpenVINO on the CPU. Clips are copied
    through the CPU.

    Args:
        path: the file.
        runtime: ``onnx`` or ``openvino``.
        threads: number of CPU threads; by default that of torch.

    Raises:
        WeightsError: no such file, or not one by this package.
        ConfigError: the runtime is not installed.
    """
    session = RUNTIMES[runtime](Path(path), torch.get_num_threads() if threads is None else threads)
    return (ExportedClips(session) if session.metadata.graph == "clip" else ExportedWindows(session)).eval()
