"""Metrics of frames against the ground truth: their titles, units, directions, and the order of their columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Title, unit and direction of a metric."""

    title: str
    unit: str
    higher_is_better: bool
    digits: int
    """Decimals when printed; JSON keeps all of them."""

    @property
    def heading(self) -> str:
        """The title with the unit, as a column of a table is headed."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title


METRICS: dict[str, Metric] = {
    "psnr_y_db": Metric(title="PSNR-Y", unit="dB", higher_is_better=True, digits=2),
    "ssim_y": Metric(title="SSIM-Y", unit="", higher_is_better=True, digits=4),
    "psnr_rgb_db": Metric(title="PSNR-RGB", unit="dB", higher_is_better=True, digits=2),
    "ssim_rgb": Metric(title="SSIM-RGB", unit="", higher_is_better=True, digits=4),
    "t_diff": Metric(title="T-diff", unit="levels", higher_is_better=False, digits=3),
    "tof": Metric(title="tOF", unit="px", higher_is_better=False, digits=3),
    "warping_error": Metric(title="E-warp", unit="", higher_is_better=False, digits=6),
    "warping_error_floor": Metric(title="E-warp of ground truth", unit="", higher_is_better=False, digits=6),
    "mae": Metric(title="MAE", unit="levels", higher_is_better=False, digits=3),
    "lpips": Metric(title="LPIPS", unit="", higher_is_better=False, digits=4),
    "tlp": Metric(title="tLPx100", unit="", higher_is_better=False, digits=3),
}
"""All metrics, in the order of their columns."""

FIDELITY = ("psnr_y_db", "ssim_y", "psnr_rgb_db")
"""Metrics that are always computed; ``ssim_rgb`` is computed on request."""

TEMPORAL = ("t_diff", "tof", "warping_error", "warping_error_floor", "mae")
"""Metrics of the step from the previous frame, and ``mae``, over the whole frame. Optical flow makes them slow."""

PERCEPTUAL = ("lpips", "tlp")
"""Metrics that need a network with learned weights."""
