"""Every metric of a clip, fed frame by frame: an hour of 1080p needs no more memory than a minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from workbench.errors import ConfigError, ResultError, ShapeError, unknown_name
from workbench.imaging import farneback, gray
from workbench.metrics.fidelity import frame_psnr_db, frame_ssim, luma, without_border
from workbench.metrics.perceptual import LPIPS, frame_lpips
from workbench.metrics.temporal import flow_distance, mean_distance, step_t_diff
from workbench.metrics.warping import Preset, motion, step_warping_error
from workbench.tensors import to_uint8

FIDELITY = ("psnr_y_db", "ssim_y", "psnr_rgb_db")
"""What is scored unasked; ``ssim_rgb`` can be."""

TEMPORAL = ("t_diff", "tof", "warping_error", "warping_error_floor", "mae")
"""About the step from the frame before, but for the last; over the whole picture. Optical flow makes these slow."""

PERCEPTUAL = ("lpips", "tlp")
"""By a network that has to be handed in."""

KNOWN = (*FIDELITY, "ssim_rgb", *TEMPORAL, *PERCEPTUAL)


@dataclass(frozen=True)
class _Before:
    """What is kept of the frame before."""

    frame: np.ndarray
    truth: np.ndarray
    error: np.ndarray  # of luma


class Scorer:
    """Scores of one clip against the true one, a frame at a time; it holds the frame before and the numbers.

    Args:
        clip: its name, for messages.
        metrics: which: :data:`FIDELITY`, ``ssim_rgb``, :data:`TEMPORAL` (the warping error's floor is that of the true
            clip), :data:`PERCEPTUAL`. Only what they need is computed.
        crop: pixels to leave out at every border, for PSNR and SSIM.
        network: for the perceptual ones, see ``metrics.perceptual.load_lpips``.
        preset: of the flow behind the warping error.

    Raises:
        UnknownNameError: no such metric; the nearest is suggested.
        ConfigError: a perceptual one without a network.

    Attributes:
        curves: metric -> one number a frame so far. PSNR is ``inf`` where frames are equal; what is about the step
            from the frame before is NaN at frame 0.
        equal: which frames so far are equal to the true ones inside the cropped border.

    Example:
        >>> scorer = Scorer("grey")
        >>> for level in (10, 20):
        ...     scorer.add(np.full((16, 16, 3), level, np.uint8), np.full((16, 16, 3), 20, np.uint8))
        >>> [round(value, 2) for value in scorer.curves["psnr_rgb_db"]], scorer.equal
        ([28.13, inf], [False, True])
    """

    def __init__(
        self,
        clip: str = "clip",
        *,
        metrics: Sequence[str] = FIDELITY,
        crop: int = 0,
        network: LPIPS | None = None,
        preset: Preset = "medium",
    ) -> None:
        for name in metrics:
            if name not in KNOWN:
                raise unknown_name("metric", name, KNOWN)
            if name in PERCEPTUAL and network is None:
                raise ConfigError(f"{name}: needs a network; see metrics.perceptual.load_lpips")
        self.clip, self.crop, self.network = clip, crop, network
        self.preset: Preset = preset
        self.curves: dict[str, list[float]] = {name: [] for name in KNOWN if name in metrics}
        self.equal: list[bool] = []
        self._before: _Before | None = None

    def __len__(self) -> int:
        return len(self.equal)

    def add(self, frame: np.ndarray | Tensor, truth: np.ndarray, *, number: int | None = None) -> None:
        """Score the next frame.

        Args:
            frame: uint8 ``(H, W, 3)``; or a float tensor ``(3, H, W)`` in [0, 1], which is rounded to 8 bits first.
            truth: uint8 ``(H, W, 3)``, the same size.
            number: its number in the clip, for messages; how many there were before it, if left out.

        Raises:
            ShapeError: not frames, not of one size, or smaller than SSIM's window.
            ResultError: NaN or infinity in the frame.
        """
        number = len(self) if number is None else number
        try:
            picture = to_uint8(frame[None])[0] if isinstance(frame, Tensor) else frame
            self._check(picture, truth)
            scores = self._fidelity(picture, truth)
        except ResultError as error:
            raise ResultError(f"{self.clip}, frame {number}: {str(error).partition(': ')[2]}", number) from error
        except ShapeError as error:
            raise ShapeError(f"{self.clip}, frame {number}: {error}") from error
        now = _Before(picture, truth, luma(picture) - luma(truth) if "t_diff" in self.curves else np.empty(0))
        scores |= self._step(self._before, now)
        for name, curve in self.curves.items():
            curve.append(scores.get(name, math.nan))
        self.equal.append(np.array_equal(without_border(picture, self.crop), without_border(truth, self.crop)))
        self._before = now

    def _check(self, frame: np.ndarray, truth: np.ndarray) -> None:
        for picture, what in ((truth, "the true frame"), (frame, "the result")):
            if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
                raise ShapeError(f"{what}: want uint8 (H, W, 3), got {picture.dtype} {picture.shape}")
        (height, width), (true_height, true_width) = frame.shape[:2], truth.shape[:2]
        if frame.shape != truth.shape:
            raise ShapeError(f"the result is {width}x{height}, the true frame {true_width}x{true_height}")

    def _fidelity(self, frame: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """What is about one frame."""
        scores: dict[str, float] = {}
        inside = without_border(frame, self.crop), without_border(truth, self.crop)
        for channel in ("y", "rgb"):
            metrics = {f"psnr_{channel}_db": frame_psnr_db, f"ssim_{channel}": frame_ssim}
            if wanted := metrics.keys() & self.curves:
                x, r = (luma(picture) if channel == "y" else picture / 1.0 for picture in inside)
                scores |= {name: metrics[name](x, r) for name in wanted}
        if "mae" in self.curves:
            scores["mae"] = mean_distance(frame, truth)
        if "lpips" in self.curves and self.network is not None:
            scores["lpips"] = frame_lpips(frame, truth, self.network)
        return scores

    def _step(self, before: _Before | None, now: _Before) -> dict[str, float]:
        """What is about the step from the frame before; nothing at frame 0."""
        scores: dict[str, float] = {}
        if before is None:
            return scores
        if "t_diff" in self.curves:
            scores["t_diff"] = step_t_diff(before.error, now.error)
        if "tof" in self.curves:
            flows = [farneback(gray(a), gray(b)) for a, b in ((before.frame, now.frame), (before.truth, now.truth))]
            scores["tof"] = flow_distance(*flows)
        if {"warping_error", "warping_error_floor"} & self.curves.keys():
            moved = motion(before.truth, now.truth, preset=self.preset)
            scores["warping_error"] = step_warping_error(before.frame, now.frame, moved)
            scores["warping_error_floor"] = step_warping_error(before.truth, now.truth, moved)
        if "tlp" in self.curves and self.network is not None:
            ours = frame_lpips(before.frame, now.frame, self.network)
            scores["tlp"] = 100 * abs(frame_lpips(before.truth, now.truth, self.network) - ours)
        return scores
