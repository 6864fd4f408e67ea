"""Values that settings of networks may have, for the configuration and the networks; imports no torch."""

from __future__ import annotations

from typing import Literal

Skip = Literal["bicubic", "bilinear", "none"]
"""Upsampled frame that is added to a network's output."""

FeatureLayer = Literal["hr", "hr_pre", "shuffle"]
"""Layer whose output is F^SR: input of the last convolution, the same before its activation, or the pixel-shuffle."""

Border = Literal["replicate", "reflection", "reflection_circle", "circle"]
"""Rule for windows beyond the ends of a clip, see ``models.windows.window_indices``."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Precision of convolutions; ``auto`` measures, see ``precision.choose_precision``."""
