"""All metrics of a clip, computed frame by frame: memory does not grow with its length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from workbench.errors import ConfigError, ResultError, ShapeError, unknown_name
from workbench.imaging import farneback, gray
from workbench.metrics import FIDELITY, METRICS, PERCEPTUAL
from workbench.metrics.fidelity import crop_frame, frame_psnr_db, frame_ssim, luma
from workbench.metrics.perceptual import LPIPS, frame_lpips, step_tlp
from workbench.metrics.temporal import flow_distance, frame_mae, step_t_diff
from workbench.metrics.warping import motion, step_warping_error
from workbench.tensors import to_uint8


@dataclass(frozen=True)
class _Previous:
    """Previous frame, its ground truth, and the error of its luma."""

    frame: np.ndarray
    ground_truth: np.ndarray
    luma_error: np.ndarray


class Scorer:
    """Scores of one clip against the ground truth, a frame at a time; only the previous frame is kept.

    Args:
        clip: name of the clip, for messages.
        metrics: names in ``metrics.METRICS``. The floor of the warping error is that of the ground truth.
        crop_border: pixels to crop at every border, for PSNR and SSIM.
        network: network of the perceptual metrics, see ``metrics.perceptual.load_lpips``.

    Raises:
        UnknownNameError: no such metric; the nearest is suggested.
        ConfigError: a perceptual metric without a network.

    Attributes:
        curves: metric -> one score for every frame so far. PSNR is ``inf`` where frames are equal; temporal metrics
            are NaN at frame 0.
        equal: for every frame so far, whether it is equal to the ground truth inside the cropped border.

    Example:
        >>> scorer = Scorer("gray")
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
        crop_border: int = 0,
        network: LPIPS | None = None,
    ) -> None:
        for name in metrics:
            if name not in METRICS:
                raise unknown_name("metric", name, METRICS)
            if name in PERCEPTUAL and network is None:
                raise ConfigError(f"{name}: needs a network; see metrics.perceptual.load_lpips")
        self.clip, self.crop_border, self.network = clip, crop_border, network
        self.curves: dict[str, list[float]] = {name: [] for name in METRICS if name in metrics}
        self.equal: list[bool] = []
        self._previous: _Previous | None = None

    def __len__(self) -> int:
        return len(self.equal)

    def add(self, frame: np.ndarray | Tensor, ground_truth: np.ndarray, *, number: int | None = None) -> None:
        """Score the next frame.

        Args:
            frame: uint8 ``(H, W, 3)``; or a float tensor ``(3, H, W)`` in [0, 1], which is rounded to 8 bits first.
            ground_truth: uint8 ``(H, W, 3)``, the same size.
            number: its number in the clip, for messages; the number of frames before it by default.

        Raises:
            ShapeError: not frames, not of one size, or smaller than SSIM's window.
            ResultError: NaN or infinity in the frame.
        """
        number = len(self) if number is None else number
        try:
            image = to_uint8(frame[None])[0] if isinstance(frame, Tensor) else frame
            self._check(image, ground_truth)
            scores = self._fidelity(image, ground_truth)
        except ResultError as error:
            raise ResultError(error.reason, number, f"{self.clip}, frame {number}") from error
        except ShapeError as error:
            raise ShapeError(f"{self.clip}, frame {number}: {error}") from error
        current = _Previous(
            image, ground_truth, luma(image) - luma(ground_truth) if "t_diff" in self.curves else np.empty(0)
        )
        scores |= self._step(self._previous, current)
        for name, curve in self.curves.items():
            curve.append(scores.get(name, math.nan))
        self.equal.append(
            np.array_equal(crop_frame(image, self.crop_border), crop_frame(ground_truth, self.crop_border))
        )
        self._previous = current

    def _check(self, frame: np.ndarray, ground_truth: np.ndarray) -> None:
        for image, name in ((ground_truth, "ground truth"), (frame, "result")):
            if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
                raise ShapeError(f"{name}: got {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
        (height, width), (true_height, true_width) = frame.shape[:2], ground_truth.shape[:2]
        if frame.shape != ground_truth.shape:
            raise ShapeError(f"result: got {width}x{height}, expected {true_width}x{true_height} as the ground truth")

    def _fidelity(self, frame: np.ndarray, ground_truth: np.ndarray) -> dict[str, float]:
        """Compute the metrics of single frames."""
        scores: dict[str, float] = {}
        inside = crop_frame(frame, self.crop_border), crop_frame(ground_truth, self.crop_border)
        for channel in ("y", "rgb"):
            metrics = {f"psnr_{channel}_db": frame_psnr_db, f"ssim_{channel}": frame_ssim}
            if wanted := metrics.keys() & self.curves:
                x, r = (luma(one) if channel == "y" else one / 1.0 for one in inside)
                scores |= {name: metrics[name](x, r) for name in wanted}
        if "mae" in self.curves:
            scores["mae"] = frame_mae(frame, ground_truth)
        if "lpips" in self.curves and self.network is not None:
            scores["lpips"] = frame_lpips(frame, ground_truth, self.network)
        return scores

    def _step(self, previous: _Previous | None, current: _Previous) -> dict[str, float]:
        """Compute the metrics of the step from the previous frame; none at frame 0."""
        scores: dict[str, float] = {}
        if previous is None:
            return scores
        if "t_diff" in self.curves:
            scores["t_diff"] = step_t_diff(previous.luma_error, current.luma_error)
        if "tof" in self.curves:
            flows = [
                farneback(gray(a), gray(b))
                for a, b in ((previous.frame, current.frame), (previous.ground_truth, current.ground_truth))
            ]
            scores["tof"] = flow_distance(*flows)
        if {"warping_error", "warping_error_floor"} & self.curves.keys():
            step = motion(previous.ground_truth, current.ground_truth)
            scores["warping_error"] = step_warping_error(previous.frame, current.frame, step)
            scores["warping_error_floor"] = step_warping_error(previous.ground_truth, current.ground_truth, step)
        if "tlp" in self.curves and self.network is not None:
            truths = previous.ground_truth, current.ground_truth
            scores["tlp"] = step_tlp((previous.frame, current.frame), truths, self.network)
        return scores
