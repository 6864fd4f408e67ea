"""Weights of other code bases: which network they belong to, with which settings, and that network filled with them.

A file tells what it is by the names of its tensors; the settings follow from their shapes. Every tensor must find its
place: a name that is not known is an error that lists it, never dropped.

=====================  =================================================================================
file                   read as
=====================  =================================================================================
``.safetensors``       plain tensors
anything else          ``torch.load(weights_only=True)``: tensors and plain containers; no code in it is run
=====================  =================================================================================

Inside, ``params_ema`` goes before ``params`` (BasicSR), then ``state_dict`` (mmagic), then the file itself; names may
begin with ``module.`` (several devices) or ``generator.`` (mmagic; its average ``generator_ema.`` goes first).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WeightsError
from workbench.models.key_maps import basicvsr, basicvsrpp, duf, edvr, fastdvdnet, rsdn, spynet, tdan, toflow
from workbench.models.video_sr import VideoSR
from workbench.models.weights import fill, locate, read_tensors
from workbench.models.zoo import build
from workbench.weight_files import DOWNLOAD, check_weight_file

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]

WRAPPERS = ("params_ema", "params", "state_dict")
"""Under which name a checkpoint holds its tensors; the first that is there is taken."""

PREFIXES = ("generator_ema.module.", "generator_ema.", "generator.", "module.")
"""In front of every name; the first that occurs is taken off, and what does not begin with it is not the network's."""

BOOKKEEPING = frozenset({"step_counter", "generator_ema.steps"})
"""Counters of mmagic's trainers that no network has."""


@dataclass(frozen=True)
class Format:
    """A layout of weights.

    Attributes:
        label: what it is called, for people.
        recognises: whether these are the names of its tensors.
        convert: its tensors -> the settings of our network (its name among them, where several go by one layout), and
            the tensors by our names.
        network: the name in :data:`workbench.models.zoo.NETWORKS`.
    """

    label: str
    recognises: Callable[[Collection[str]], bool]
    convert: Callable[[State], tuple[dict[str, Any], dict[str, Tensor]]]
    network: str


FORMATS: tuple[Format, ...] = (
    Format("EDVR by BasicSR", edvr.recognises_basicsr, edvr.from_basicsr, "edvr_m"),
    Format("EDVR by its original repository", edvr.recognises_original, edvr.from_original, "edvr_m"),
    Format("EDVR by mmagic", edvr.recognises_mmagic, edvr.from_mmagic, "edvr_m"),
    Format("FastDVDnet by its official repository", fastdvdnet.recognises, fastdvdnet.from_fastdvdnet, "fastdvdnet"),
    Format("DUF by BasicSR", duf.recognises, duf.from_duf, "duf_16l"),
    Format("TDAN by its official repository", tdan.recognises, tdan.from_tdan, "tdan"),
    Format("TDAN by mmagic", tdan.recognises_mmagic, tdan.from_mmagic, "tdan"),
    Format("TOFlow by BasicSR or mmagic", toflow.recognises, toflow.from_toflow, "toflow"),
    Format("RSDN by its official repository", rsdn.recognises, rsdn.from_rsdn, "rsdn"),
    Format("BasicVSR by BasicSR or mmagic", basicvsr.recognises, basicvsr.from_basicvsr, "basicvsr"),
    Format("IconVSR by BasicSR or mmagic", basicvsr.recognises_iconvsr, basicvsr.from_iconvsr, "iconvsr"),
    Format("BasicVSR++ by BasicSR or mmagic", basicvsrpp.recognises, basicvsrpp.from_basicvsrpp, "basicvsrpp"),
)


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """A network that came from elsewhere.

    Attributes:
        network: filled, in evaluation mode; its recipe is whole, so that :func:`workbench.models.weights.save` works.
        source: what the weights were recognised as.
    """

    network: VideoSR
    source: str


def load_foreign(weights: str | Path | Mapping[str, Any], **settings: Any) -> VideoSR:
    """The network whose weights these are, filled with them; in evaluation mode.

    Args:
        weights: a ``.safetensors``, ``.pth`` or ``.pt`` file, or a state dict.
        settings: what the weights themselves do not say, for the network's builder: see ``models.keys``.

    Raises:
        WeightsError: the file is damaged or holds more than tensors; no layout is recognised; or tensors are missing,
            left over, of another shape or not finite (the error says which).
    """
    return read_foreign(weights, **settings).network


def read_foreign(weights: str | Path | Mapping[str, Any], **settings: Any) -> ConvertedCheckpoint:
    """The same as :func:`load_foreign`, and what the weights were recognised as."""
    name = "state dict" if isinstance(weights, Mapping) else Path(weights).name
    state = _network_state(_read(Path(weights)) if not isinstance(weights, Mapping) else weights, name)
    layout = next((layout for layout in FORMATS if layout.recognises(state.keys())), None)
    if layout is None:
        known = ", ".join(layout.label for layout in FORMATS)
        raise WeightsError(
            f"{name}: no layout that is known; there are: {known}. Its tensors are called {', '.join(list(state)[:5])} "
            "... A network of your own joins through models.adapter.adapt"
        )
    try:
        inferred, tensors = layout.convert(state)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{name}: looks like {layout.label}, but is not whole: {error} is not there") from error
    settings = {"name": layout.network, **inferred, **settings}
    network = build(**settings)
    fill(network, tensors, f"{name} ({layout.label})")
    log.info("%s: %s, %s", name, layout.label, network.recipe)
    return ConvertedCheckpoint(network.eval(), layout.label)


def load_flow_into(network: VideoSR, where: str | Path) -> None:
    """Load weights of a flow network alone into the flow network of ``network``; its other weights stay.

    Args:
        network: one that contains a flow network (``flow_part``).
        where: ``pretrained:flow`` (for VESPCN and ``basicvsr_s``), a safetensors file of the flow network, or weights
            of a public SPyNet (``.pth`` of BasicSR or mmagic), for the BasicVSR family.

    Raises:
        WeightsError: the network contains no flow network, or another one; or the file is damaged.
    """
    if not network.flow_part:
        name = network.recipe.get("name", type(network).__name__)
        raise WeightsError(f"{where}: {name} contains no flow network; leave its flow weights out")
    path = locate(where)
    state = _network_state(_read(path), path.name)
    tensors = spynet.from_spynet(state)[1] if spynet.recognises(state.keys()) else state
    fill(network.get_submodule(network.flow_part), tensors, path.name)


def _read(path: Path) -> Mapping[str, Any]:
    """What a file holds, without running anything in it."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        tensors, metadata = read_tensors(path)
        if "recipe" in metadata:
            raise WeightsError(f"{path}: these are weights of this workbench; read them with models.weights.load")
        return tensors
    check_weight_file(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch reports what it cannot read in a dozen ways
        raise WeightsError(f"{path}: {_describe_failure(error)}") from error
    if not isinstance(held, Mapping):
        raise WeightsError(f"{path}: want tensors by name, got {type(held).__name__}")
    return held


def _describe_failure(error: Exception) -> str:
    """Return why a checkpoint cannot be read, and what to do; never torch's advice to unpickle the file."""
    told = str(error)
    if refused := re.search(r"GLOBAL ([\w.]+)", told):
        return (
            f"want tensors alone, got Python objects too ({refused[1]}); they are not loaded, since code in them would "
            "be run. Get a safetensors file, or a checkpoint of the state dict alone, from its author"
        )
    if isinstance(error, EOFError) or "unexpected EOF" in told or "central directory" in told:
        return "want a checkpoint, got one that is cut off; " + DOWNLOAD
    return f"want a checkpoint by torch.save, got something else or a damaged one ({type(error).__name__}); {DOWNLOAD}"


def _network_state(held: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of the network alone, without what a trainer wrapped around them."""
    wrapper = next((key for key in WRAPPERS if isinstance(held.get(key), Mapping)), None)
    state = held if wrapper is None else held[wrapper]
    strange = [str(key) for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange or not state:
        raise WeightsError(
            f"{name}: want tensors by name, or one of {', '.join(WRAPPERS)} that holds them; "
            f"got {', '.join(strange[:10]) if strange else 'nothing'}"
        )
    prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in state)), "")
    kept = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    beside = [key for key in state if not key.startswith(prefix) and key not in BOOKKEEPING]
    if prefix.startswith("generator_ema"):  # the average is taken, what it is an average of is known
        beside = [key for key in beside if not key.startswith("generator.")]
    if beside:
        raise WeightsError(f"{name}: {len(beside)} tensors do not begin with {prefix!r}: {', '.join(beside[:20])}")
    return {key: value for key, value in kept.items() if key not in BOOKKEEPING}
