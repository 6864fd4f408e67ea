"""LPIPS, a learned perceptual distance of images, and tLP, its temporal version.

Optional: the weights are not shipped, and nothing is downloaded here. The linear weights come with the extra
``perceptual``; AlexNet's are read from the folder of ``torch.hub`` or from a given path. Torchvision itself
is not needed.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench import DISTRIBUTION
from workbench.errors import ShapeError, WeightsError
from workbench.weight_files import DOWNLOAD, check_weight_file

TRUNK = "alexnet-owt-7be5be79.pth"
"""File name of AlexNet's weights in torchvision; after the last hyphen come the first digits of the file's SHA-256."""

TRUNK_ADDRESS = f"https://download.pytorch.org/models/{TRUNK}"

LINEAR = {
    "torchmetrics": "functional/image/lpips_models/alex.pth",
    "lpips": "weights/v0.1/alex.pth",
}
"""Package -> path of the linear weights (version 0.1) among its data files. The packages are not imported."""

MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and standard deviation of R, G, B in [-1, 1] by which the input of AlexNet is normalized."""

MIN_SIDE = 31
"""Minimum height and width: AlexNet's two poolings leave nothing of smaller images."""

_LAYERS = {  # number in torchvision's list of layers -> convolution
    0: (3, 64, 11, 4, 2),
    3: (64, 192, 5, 1, 2),
    6: (192, 384, 3, 1, 1),
    8: (384, 256, 3, 1, 1),
    10: (256, 256, 3, 1, 1),
}
_POOLED = (3, 6)  # layers after a 3x3 max-pooling of stride 2


class LPIPS(nn.Module):
    r"""Learned perceptual distance of images: Zhang et al., CVPR 2018, version 0.1 with AlexNet.

    .. math:: d = \sum_l \operatorname{mean}_{y, x} \sum_c w_{l,c} \left( \hat a_{l,c} - \hat b_{l,c} \right)^2

    over the five activations of AlexNet, each divided by its norm over the channels (plus 1e-10), as in the authors'
    package. For its weights see :func:`load_lpips`.

    Example:
        >>> LPIPS()(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)).tolist()
        [0.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ModuleDict(
            {str(n): nn.Conv2d(i, o, kernel, stride, pad) for n, (i, o, kernel, stride, pad) in _LAYERS.items()}
        )
        self.linear = nn.ParameterList([nn.Parameter(torch.ones(o)) for _, o, *_ in _LAYERS.values()])
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the distance of each pair of images.

        Args:
            first: ``(N, 3, H, W)`` RGB in [0, 1], at least 31x31.
            second: the same shape; the order does not matter.

        Returns:
            ``(N,)``, 0 where two images are equal.

        Raises:
            ShapeError: not images, not of one shape, or too small.
        """
        if first.ndim != 4 or first.shape[1] != 3 or first.shape != second.shape:
            raise ShapeError(f"LPIPS: got {tuple(first.shape)} and {tuple(second.shape)}, expected (N, 3, H, W) twice")
        if min(first.shape[-2:]) < MIN_SIDE:
            raise ShapeError(f"LPIPS: got {tuple(first.shape[-2:])} pixels, expected {MIN_SIDE}x{MIN_SIDE} or more")
        maps = [((2 * images - 1) - self.mean) / self.std for images in (first, second)]
        total = first.new_zeros(len(first))
        for number, weights in zip(_LAYERS, self.linear, strict=True):
            if number in _POOLED:
                maps = [F.max_pool2d(one, 3, stride=2) for one in maps]
            maps = [F.relu(self.trunk[str(number)](one)) for one in maps]
            a, b = (one / (one.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for one in maps)
            total = total + torch.einsum("nchw,c->nhw", (a - b).square(), weights).mean(dim=(1, 2))
        return total


def load_lpips(trunk: Path | None = None, linear: Path | None = None) -> LPIPS:
    """Load LPIPS with its weights from files on this machine.

    Args:
        trunk: AlexNet's weights in torchvision's format; :data:`TRUNK` in the folder of ``torch.hub`` by default,
            which is checked against the digits in its name.
        linear: the linear weights of version 0.1; from an installed package (:data:`LINEAR`) by default.

    Raises:
        WeightsError: a file is missing or damaged; the message contains the command that fetches it.
    """
    found = _hub_trunk() if trunk is None else trunk
    network = LPIPS()
    states = _read(found), _read(_installed_linear() if linear is None else linear)
    parts = {f"trunk.{n}.{kind}": (states[0], f"features.{n}.{kind}") for n in _LAYERS for kind in ("weight", "bias")}
    parts |= {f"linear.{k}": (states[1], f"lin{k}.model.1.weight") for k in range(len(_LAYERS))}
    target = network.state_dict()
    for name, (state, key) in parts.items():
        value = state.get(key)
        if not isinstance(value, Tensor) or value.numel() != target[name].numel():
            raise WeightsError(f"LPIPS: want {key} of {target[name].numel()} numbers in the weights; take another file")
        target[name] = value.reshape(target[name].shape).float()
    network.load_state_dict(target)
    return network


def _hub_trunk() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / TRUNK
    if not path.is_file():
        raise WeightsError(
            f"LPIPS: AlexNet's weights are not at {path}. To fetch them (233 MB, once): "
            f"python -c \"import torch; torch.hub.load_state_dict_from_url('{TRUNK_ADDRESS}', check_hash=True)\""
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise WeightsError(f"{path}: got sha256 {digest[:12]}, expected the digits in its name; fetch it again")
    return path


def _installed_linear() -> Path:
    for package, inside in LINEAR.items():
        spec = find_spec(package)
        path = Path(spec.origin).parent / inside if spec is not None and spec.origin else None
        if path is not None and path.is_file():
            return path
    raise WeightsError(
        f"LPIPS: its linear weights are not installed; install the extra: pip install '{DISTRIBUTION}[perceptual]'"
    )


def _read(path: Path) -> Mapping[str, Tensor]:
    check_weight_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: not weights that can be read ({type(error).__name__}); {DOWNLOAD}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: got {type(state).__name__}, expected named tensors")
    return state


def frame_lpips(first: np.ndarray, second: np.ndarray, network: LPIPS) -> float:
    """Compute LPIPS of two 8-bit images ``(H, W, 3)``, on the device of the network; lower is better."""
    device = network.linear[0].device
    pair = [
        torch.from_numpy(np.require(frame, requirements=("C", "W"))).to(device).permute(2, 0, 1).float()[None] / 255
        for frame in (first, second)
    ]
    with torch.inference_mode():
        return float(network(*pair))


def step_tlp(
    frames: tuple[np.ndarray, np.ndarray], ground_truth: tuple[np.ndarray, np.ndarray], network: LPIPS
) -> float:
    r"""Compute tLP of one step: the error of the perceptual change from one frame to the next (TecoGAN, 2020).

    .. math:: \mathrm{tLP}_t = 100 \, \left| d(r_{t-1}, r_t) - d(x_{t-1}, x_t) \right|

    with :math:`d` LPIPS; the factor is that of published tables ("tLPx100"). Lower is better.
    """
    return 100 * abs(frame_lpips(*ground_truth, network) - frame_lpips(*frames, network))
