"""Conversion of weights of other code bases: detection of the layout, and a network filled with them.

The layout is detected by the names of the tensors; the settings follow from their shapes. Every tensor must be
converted: an unknown name is an error.

=====================  =================================================================================
file                   read as
=====================  =================================================================================
``.safetensors``       plain tensors
anything else          ``torch.load(weights_only=True)``: tensors and plain containers; no code in it is run
=====================  =================================================================================

``params_ema`` is preferred to ``params`` (BasicSR), then ``state_dict`` (mmagic), then the file itself; names may begin
with ``module.`` (several devices) or ``generator.`` (mmagic; its average ``generator_ema.`` is preferred).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WeightsError
from workbench.models.key_maps import edvr, tdan
from workbench.models.key_maps.basicvsr import BASICVSR, ICONVSR
from workbench.models.key_maps.basicvsrpp import BASICVSRPP
from workbench.models.key_maps.duf import DUF
from workbench.models.key_maps.fastdvdnet import FASTDVDNET
from workbench.models.key_maps.layout import Layout, rename
from workbench.models.key_maps.rsdn import RSDN
from workbench.models.key_maps.spynet import is_spynet, spynet_renames
from workbench.models.key_maps.toflow import TOFLOW
from workbench.models.video_sr import VideoSR
from workbench.models.weights import fill, locate, read_tensors
from workbench.models.zoo import build
from workbench.weight_files import DOWNLOAD, check_weight_file

log = logging.getLogger(__name__)

WRAPPERS = ("params_ema", "params", "state_dict")
"""Keys under which checkpoints store their tensors; the first that exists is used."""

PREFIXES = ("generator_ema.module.", "generator_ema.", "generator.", "module.")
"""Prefixes of all names; the first that occurs is removed, and other names do not belong to the network."""

BOOKKEEPING = frozenset({"step_counter", "generator_ema.steps"})
"""Counters of mmagic's trainers, which no network has."""


FORMATS: tuple[Layout, ...] = (
    *edvr.LAYOUTS, FASTDVDNET, DUF, *tdan.LAYOUTS, TOFLOW, RSDN, ICONVSR, BASICVSR, BASICVSRPP,
)  # fmt: skip
"""Known layouts; the first that matches is used."""


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """Network with converted weights.

    Attributes:
        network: in evaluation mode; its recipe is complete, so that :func:`workbench.models.weights.save` works.
        source: layout of the weights.
    """

    network: VideoSR
    source: str


def load_converted(weights: str | Path | Mapping[str, Any], **settings: Any) -> VideoSR:
    """Load weights of another code base into a new network, in evaluation mode.

    Args:
        weights: a ``.safetensors``, ``.pth`` or ``.pt`` file, or a state dict.
        settings: settings of the network's builder that the weights do not determine, see ``models.key_maps``.

    Raises:
        WeightsError: the file is damaged or contains more than tensors; the layout is unknown; or tensors are missing,
            left over, of another shape or not finite.
    """
    return convert_checkpoint(weights, **settings).network


def convert_checkpoint(weights: str | Path | Mapping[str, Any], **settings: Any) -> ConvertedCheckpoint:
    """Load weights as :func:`load_converted` does, and return their layout too."""
    name = "state dict" if isinstance(weights, Mapping) else Path(weights).name
    state = _network_state(_read(Path(weights)) if not isinstance(weights, Mapping) else weights, name)
    layout = next((layout for layout in FORMATS if layout.matches(state.keys())), None)
    if layout is None:
        known = ", ".join(layout.label for layout in FORMATS)
        raise WeightsError(
            f"{name}: unknown layout; known are: {known}. The names of its tensors are {', '.join(list(state)[:5])}. "
            "For a network of your own see models.adapter.adapt"
        )
    try:
        inferred, tensors = layout.convert(state)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{name}: want {layout.label}, got one without {error}") from error
    settings = {"name": layout.network, **inferred, **settings}
    network = build(**settings)
    fill(network, tensors, f"{name} ({layout.label})")
    log.info("%s: %s, %s", name, layout.label, network.recipe)
    return ConvertedCheckpoint(network.eval(), layout.label)


def load_flow_into(network: VideoSR, where: str | Path) -> None:
    """Load weights of a flow network alone into the flow network of ``network``; its other weights stay.

    Args:
        network: one that contains a flow network (``flow_module``).
        where: ``pretrained:flow`` (for VESPCN and ``basicvsr_s``), a safetensors file of the flow network, or weights
            of a public SPyNet (``.pth`` of BasicSR or mmagic), for the BasicVSR family.

    Raises:
        WeightsError: the network contains no flow network, or another one; or the file is damaged.
    """
    if not network.flow_module:
        raise WeightsError(f"{where}: {network.name} contains no flow network; leave its flow weights out")
    path = locate(where)
    state = _network_state(_read(path), path.name)
    tensors = rename(state, spynet_renames(), label="SPyNet weights") if is_spynet(state.keys()) else state
    fill(network.get_submodule(network.flow_module), tensors, path.name)


def _read(path: Path) -> Mapping[str, Any]:
    """Return the content of a file, without executing anything in it."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        tensors, metadata = read_tensors(path)
        if "recipe" in metadata:
            raise WeightsError(f"{path}: want other weights, got weights of this package; see models.weights.load")
        return tensors
    check_weight_file(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises many types for unreadable files
        raise WeightsError(f"{path}: {_describe_failure(error)}") from error
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(f"{path}: want tensors by name, got {type(checkpoint).__name__}")
    return checkpoint


def _describe_failure(error: Exception) -> str:
    """Return why a checkpoint cannot be read, and what to do; never torch's advice to unpickle the file."""
    message = str(error)
    if refused := re.search(r"GLOBAL ([\w.]+)", message):
        return (
            f"want tensors alone, got Python objects too ({refused[1]}); they are not loaded, since code in them would "
            "be run. Get a safetensors file, or a checkpoint of the state dict alone, from its author"
        )
    if isinstance(error, EOFError) or "unexpected EOF" in message or "central directory" in message:
        return "want a checkpoint, got one that is cut off; " + DOWNLOAD
    return f"want a checkpoint by torch.save, got something else or a damaged one ({type(error).__name__}); {DOWNLOAD}"


def _network_state(checkpoint: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """Return the tensors of the network alone, without those of a trainer."""
    wrapper = next((key for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
    state = checkpoint if wrapper is None else checkpoint[wrapper]
    invalid = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if invalid or not state:
        raise WeightsError(
            f"{name}: want tensors by name, or one of {', '.join(WRAPPERS)} that contains them; "
            f"got {', '.join(invalid[:10]) if invalid else 'nothing'}"
        )
    prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in state)), "")
    kept = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    others = [key for key in state if not key.startswith(prefix) and key not in BOOKKEEPING]
    if prefix.startswith("generator_ema"):  # the average is used; the weights that it averages may be there too
        others = [key for key in others if not key.startswith("generator.")]
    if others:
        raise WeightsError(f"{name}: {len(others)} tensors do not begin with {prefix!r}: {', '.join(others[:20])}")
    return {key: value for key, value in kept.items() if key not in BOOKKEEPING}
