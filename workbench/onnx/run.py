"""Networks that :mod:`workbench.onnx.export` has written: ONNX Runtime computes, everything else stays as it is.

An ``.onnx`` file of ours says of itself what it is (scale, frames of a window, border rule ...), so that it is a
network like any other: it upscales films, is scored, and is timed. Its graph is one of three:

============ ================================================ ==========================================
``windows``  clip (B, T, 3, H, W), windows (n, frames)        frames (B, n, 3, s*H, s*W)
``window``   clip (1, frames, 3, H, W)                        frames (1, 1, 3, s*H, s*W), the middle one
``clip``     clip (B, T, 3, H, W), T fixed if ``frames`` says frames (B, T, 3, s*H, s*W)
============ ================================================ ==========================================

``windows`` are the numbers of the frames of ``clip`` that each output frame looks at, int64: for windows of three whose
borders are replicated [0, 0, 1], [0, 1, 2], [1, 2, 3] ... (:func:`workbench.models.windows.window_indices`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.errors import ConfigError, ShapeError, WeightsError
from workbench.models.video_sr import FeatureLayer, NetworkInfo, SlidingWindow, Upscaled, VideoSR
from workbench.models.windows import BORDERS, Border
from workbench.weight_files import check_weight_file

KEY, FORMAT = "workbench", 1
Graph = Literal["windows", "window", "clip"]
GRAPHS: tuple[Graph, ...] = ("windows", "window", "clip")


def need(module: str) -> Any:
    """A module of the extra ``export``.

    Raises:
        ConfigError: it is not installed; says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} is not installed; exported networks need: pip install 'workbench[export]', or: pip install onnx "
            "onnxruntime"
        ) from error


@dataclass(frozen=True, kw_only=True)
class OnnxMetadata:
    """What a file says of itself.

    Attributes:
        name: of the network in the zoo, or of its class.
        graph: see the head of this module.
        scale: how many times larger the output is.
        num_frames: of a window.
        frames: how many a clip must have; None for any number.
        size: height and width that it must have; None for any.
        reach: frames to either side that one output frame depends on; None for the whole clip.
        border: rule beyond the ends of a clip.
        precision: ``fp32``, ``fp16`` or ``int8``.
    """

    name: str
    graph: Graph
    scale: int
    num_frames: int
    frames: int | None
    size: tuple[int, int] | None = None
    reach: int | None
    border: Border
    precision: str

    def to_json(self) -> str:
        """As it stands in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, path: Path) -> OnnxMetadata:
        """Read it again.

        Raises:
            WeightsError: it is not what :meth:`to_json` writes.
        """
        try:
            said = json.loads(text)
            if said.pop("format") != FORMAT:
                raise ValueError("another format")
            if said.get("size") is not None:
                said["size"] = tuple(map(int, said["size"]))
            facts = cls(**said)
            if facts.graph not in GRAPHS or facts.border not in BORDERS:
                raise ValueError(f"{facts.graph}, {facts.border}")
            numbers = (facts.scale, facts.num_frames, facts.frames or 1, (facts.reach or 0) + 1)
            if not all(isinstance(number, int) and 1 <= number <= 10_000 for number in numbers):
                raise ValueError(f"numbers {numbers}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(f"{path}: what it says of itself is damaged ({error}); export it again") from error
        return facts


class _Session:
    """One open file."""

    def __init__(self, path: Path, threads: int) -> None:
        runtime = need("onnxruntime")
        self._path = path
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; `workbench export` writes one")
        check_weight_file(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # it warns of every dimension that is not known beforehand; errors are raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other programs want the cores too
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        there = [name for name in wanted if name in runtime.get_available_providers()]
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=there)
        except Exception as error:  # its errors share no base of their own
            raise WeightsError(f"{path}: not a network that ONNX Runtime can read ({_first_line(error)})") from error
        said = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if said is None:
            raise WeightsError(f"{path}: not written by `workbench export`, so nobody knows what goes in")
        self.facts = OnnxMetadata.from_json(said, path)

    def run(self, clip: Tensor, windows: Tensor | None = None) -> Tensor:
        size = self.facts.size
        if size is not None and tuple(clip.shape[-2:]) != size:
            raise ShapeError(
                f"clip: it is {clip.shape[-1]}x{clip.shape[-2]}, {self._path.name} was made for exactly "
                f"{size[1]}x{size[0]}; export the network again with that --size, or use the network itself"
            )
        feeds = {"clip": clip.detach().to("cpu", torch.float32).contiguous().numpy()}
        if windows is not None:
            feeds["windows"] = windows.cpu().numpy()
        try:
            (frames,) = self._session.run(["frames"], feeds)
        except Exception as error:  # its errors share no base of their own
            size = "x".join(map(str, clip.shape))
            raise WeightsError(f"{self._path}: fails on a clip of {size}: {_first_line(error)[:300]}") from error
        return torch.from_numpy(frames).to(clip.device)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _about(facts: OnnxMetadata) -> NetworkInfo:
    return NetworkInfo(
        paper=f"{facts.name}, exported", year=0, role="both", features="", differs=f"ONNX Runtime, {facts.precision}"
    )


class ExportedWindows(SlidingWindow):
    """A sliding window that ONNX Runtime computes: one window after the other on a CPU, for its caches."""

    scales = (1, 2, 3, 4)

    def __init__(self, session: _Session) -> None:
        facts = session.facts
        super().__init__(scale=facts.scale, num_frames=facts.num_frames, border=facts.border, skip="none")
        self._session, self.facts, self.info = session, facts, _about(facts)
        self.recipe = {"name": facts.name, "runtime": "onnx", "precision": facts.precision}

    def _upscale(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None) -> Upscaled:
        return Upscaled(torch.cat([self._window(clip, window) for window in windows.cpu()], dim=1))

    def _window(self, clip: Tensor, window: Tensor) -> Tensor:
        if self.facts.graph == "window":
            return torch.cat([self._session.run(one[None, window.to(clip.device)]) for one in clip])
        needed, places = window.unique(return_inverse=True)
        return self._session.run(clip[:, needed.to(clip.device)], places[None])


class ExportedClips(VideoSR):
    """Any other network that ONNX Runtime computes."""

    scales = (1, 2, 3, 4)

    def __init__(self, session: _Session) -> None:
        facts = session.facts
        super().__init__(scale=facts.scale)
        self._session, self.facts, self.info = session, facts, _about(facts)
        self.num_frames, self.temporal_radius = facts.num_frames, facts.reach
        self.recipe = {"name": facts.name, "runtime": "onnx", "precision": facts.precision}

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; there are no features to keep.

        Raises:
            ShapeError: not as many frames as the graph was made for.
        """
        _, frames, _, _, _ = self.check_input(clip, return_features)
        fixed = self.facts.frames
        if fixed is not None and frames != fixed:
            raise ShapeError(
                f"clip: it has {frames} frames, this file was made for exactly {fixed}: a network that carries a state "
                "along the clip is unrolled when it is exported. Cut the clip, export again with another --frames, or "
                "use the network itself"
            )
        return Upscaled(self._session.run(clip))

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """One pass, cut; a network without state goes through the clip a stretch at a time."""
        if self.temporal_radius is None:
            yield from super().chunks(clip, frames=frames, return_features=return_features)
            return
        for first in range(0, clip.shape[1], frames):
            yield self(clip[:, first : first + frames], return_features=return_features)


def open_exported(path: str | Path, *, threads: int | None = None) -> ExportedWindows | ExportedClips:
    """A network from an ``.onnx`` file that ``workbench export`` wrote, ready to be called.

    It stays on the CPU, or on CUDA where ONNX Runtime was installed for that; clips come and go through the CPU.

    Args:
        path: the file.
        threads: of the CPU; as many as torch uses where left out.

    Raises:
        WeightsError: no such file, or not one of ours.
        ConfigError: onnxruntime is not installed.
    """
    session = _Session(Path(path), torch.get_num_threads() if threads is None else threads)
    return (ExportedClips(session) if session.facts.graph == "clip" else ExportedWindows(session)).eval()
