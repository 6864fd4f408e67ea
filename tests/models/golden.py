"""Golden tensors of the public reference networks, and the comparison with them.

The references ran in float32 and their outputs are stored in float32, so every golden tensor contains the rounding of
that one computation. Ours is computed in float64, where the kernels of different CPUs agree to 1e-13 of the range
(measured between AVX-512 and SSE4.1). The difference is therefore the rounding of the golden tensor, and the same on
every machine.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

ROUNDING = {
    "basicvsr/output": 1.3e-7,
    "basicvsrpp/output": 1.5e-7,
    "duf_16l/output": 3.5e-7,
    "edvr_tiny_3f_notsa/features": 2.7e-7,
    "edvr_tiny_3f_notsa/output": 1.2e-7,
    "edvr_tiny_5f_tsa/features": 2.5e-7,
    "edvr_tiny_5f_tsa/output": 1.1e-7,
    "fastdvdnet_denoiser/output": 8.6e-7,
    "rsdn/output": 2.7e-7,
    "rsdn/output_detail": 2.1e-7,
    "rsdn/output_structure": 2.6e-7,
    "tdan/aligned": 3.6e-6,
    "tdan/output": 4.8e-6,
    "toflow/output": 1.2e-7,
}
"""The largest rounding error of each golden tensor as a fraction of its range, rounded up.

Half a unit in the last place of a number around 1 is 6e-8; networks with an output around 1 accumulate two to six of
them. FastDVDnet and TDAN add numbers larger than their output, so their rounding is larger, too. Our networks in
float32 differ from float64 by as much: 1.2e-7 (EDVR), 1.2e-6 (FastDVDnet), 6e-6 (TDAN).
"""


def read_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights under the names of the reference in float32, and the other tensors in float64."""
    tensors = load_file(path)
    weights = {name: tensors.pop(name) for name in list(tensors) if name.startswith("w.")}
    weights = {key[2:]: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    return weights, {name: value.double() for name, value in tensors.items()}


def assert_reproduced(ours: Tensor, name: str, golden: dict[str, Tensor]) -> None:
    """Compare with the golden tensor of this name (``file/tensor``), up to its own rounding."""
    theirs = golden[name.rpartition("/")[2]]
    assert ours.dtype == torch.float64
    assert ours.shape == theirs.shape
    error = (ours - theirs).abs().max() / (theirs.max() - theirs.min())
    assert error < ROUNDING[name], f"{name}: error {error:.2e} of the range"
