"""Values that settings may have, for the configuration, the command line and the code that reads them; no torch."""

from __future__ import annotations

from typing import Literal

Skip = Literal["bicubic", "bilinear", "none"]
"""Upsampled frame that is added to a network's output."""

FeatureLayer = Literal["hr", "hr_pre", "shuffle"]
"""Layer whose output is F^SR: input of the last convolution, the same before its activation, or the pixel-shuffle."""

Border = Literal["replicate", "reflection", "reflection_circle", "circle"]
"""Rule for windows beyond the ends of a clip, see ``models.windows.window_indices``."""

AttentionKind = Literal["sum_squares", "sum_abs", "max_squares"]
"""Reduction of channels to an attention map, see ``distill.spatial.attention_map``."""

Normalization = Literal["none", "unit"]
"""Normalization of attention maps: none, or unit Euclidean length."""

SpatialFeatures = Literal["sr", "lr"]
"""Features of the attention maps: F^SR, or the aligned, low-resolution F^LR."""

MemoryMode = Literal["frozen", "trained", "trained_then_frozen"]
"""Training of the shared ConvLSTM."""

Cells = Literal["last", "all"]
"""Memory cells of a clip that are compared."""

Schedule = Literal["constant", "warm_up", "decay"]
"""Schedule of the weights of the distillation losses."""

MemoryFormat = Literal["auto", "channels_last", "contiguous"]
"""Order of the values of weights and activations in memory; ``auto`` measures, see ``training.tuning``."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Precision of convolutions; ``auto`` measures, see ``precision.choose_precision``."""

Deinterlace = Literal["auto", "on", "off"]
"""Deinterlace frames that are flagged as interlaced, all frames, or none."""

HdrMode = Literal["tonemap", "keep", "refuse"]
"""Treatment of HDR video: map it to SDR, write its code values with their marks, or raise an error."""

PreparedFormat = Literal["arrays", "folders", "shards"]
"""Storage of prepared footage: memory-mapped arrays, folders of PNG files, or tar files."""

Downscale = Literal["auto", "1", "2", "3"]
"""Factor by which prepared footage is downscaled; ``auto``: the largest that leaves one tile."""
