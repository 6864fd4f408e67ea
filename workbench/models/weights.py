"""Weights on disk: safetensors with the recipe of their network inside; nothing is unpickled.

Weights of other code bases are read by :mod:`workbench.models.conversion`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from workbench.errors import WeightsError, unknown_name
from workbench.models.video_sr import VideoSR
from workbench.models.zoo import PRIVILEGED, build
from workbench.scenes import write_atomic
from workbench.weight_files import check_weight_file

FORMAT = "1"
PRETRAINED = "pretrained:"
DECODER = "decoder:"
"""``decoder:FILE`` stands for the decoder in the file of a privileged teacher: what its student begins with."""
PICKLES = (".pth", ".pt", ".ckpt", ".pkl", ".bin", ".tar")
"""Endings of files that torch.save writes."""
LISTED = 20
"""So many names are spelt out where tensors are missing or too many."""


def pretrained_names() -> list[str]:
    """Names of the weights that ship with the package."""
    home = resources.files("workbench.pretrained")
    return sorted(p.name.removesuffix(".safetensors") for p in home.iterdir() if p.name.endswith(".safetensors"))


def locate(where: str | Path) -> Path:
    """The file that ``pretrained:NAME``, ``decoder:FILE`` or a path stands for.

    Raises:
        UnknownNameError: nothing of that name ships.
        WeightsError: no such file.
    """
    where = where.removeprefix(DECODER) if isinstance(where, str) else where
    if isinstance(where, str) and where.startswith(PRETRAINED):
        name = where.removeprefix(PRETRAINED)
        if name not in pretrained_names():
            raise unknown_name("pretrained weights", name, pretrained_names())
        return Path(str(resources.files("workbench.pretrained") / f"{name}.safetensors"))
    path = Path(where)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; `{PRETRAINED}NAME` stands for: {', '.join(pretrained_names())}")
    return path


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically: a reader finds the old file or the whole new one."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_atomic(path, to_bytes(plain, dict(metadata) if metadata else None))  # {} makes an unreadable file


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read tensors and their metadata.

    Raises:
        WeightsError: not a safetensors file, or cut short; the error names what it is.
    """
    check_weight_file(path)
    if path.suffix in PICKLES:
        raise WeightsError(
            f"{path}: not a safetensors file; weights of other code bases are read by models.foreign.load_foreign, and "
            f"written as ours by `workbench convert {path} {path.with_suffix('.safetensors').name}`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a safetensors file that can be read ({error}); download or copy it again"
        ) from error


def save(network: VideoSR, path: Path, *, half: bool = False, **card: Any) -> None:
    """Write a network's weights with the recipe that builds it.

    A network that the zoo did not build (an adapted one, or a class of your own) has no recipe. Give it a name:
    ``zoo.NETWORKS["mine"] = a_function_that_builds_it``, then ``zoo.build("mine")``; its file can be loaded wherever
    that line was run before. Or write its tensors alone, :func:`save_tensors` of its ``state_dict()``, and read them
    with :func:`load_into` into a network that is there.

    Args:
        network: made by :func:`workbench.models.zoo.build`.
        path: the ``.safetensors`` file to write.
        half: store in half precision (they are floats again when loaded).
        card: further JSON-able facts that travel along (data, steps, seed, scores).

    Raises:
        WeightsError: the zoo did not build this network, so nobody could rebuild it.
    """
    if not network.recipe:
        raise WeightsError(
            "this network was not built by the zoo, so nobody could rebuild it; use zoo.build, for a network of your "
            'own after zoo.NETWORKS["mine"] = a_function_that_builds_it; or write its tensors alone with '
            "weights.save_tensors and read them with weights.load_into"
        )
    tensors = network.state_dict()
    if half:
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "recipe": json.dumps(network.recipe), "card": json.dumps(card)}
    save_tensors(path, tensors, metadata)


def load(where: str | Path) -> VideoSR:
    """Build the network whose weights these are, and load them; in evaluation mode.

    Raises:
        WeightsError: the file is damaged, is not one of ours, or does not fit its own recipe.
    """
    path, tensors, metadata = _open(where)
    network = build(**_recipe(path, metadata))
    fill(network, tensors, path.name)
    return network.eval()


def _open(where: str | Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, str]]:
    """A file's tensors and metadata; ``decoder:FILE`` as if the decoder had been saved alone."""
    path = locate(where)
    tensors, metadata = read_tensors(path)
    if not (isinstance(where, str) and where.startswith(DECODER)):
        return path, tensors, metadata
    inside = {name.removeprefix("decoder."): tensor for name, tensor in tensors.items() if name.startswith("decoder.")}
    if "recipe" in metadata:
        recipe = _recipe(path, metadata)
        if not recipe["name"].startswith(PRIVILEGED):
            raise WeightsError(
                f"{path.name}: there is no decoder in it, these are weights of {recipe['name']}; name it without "
                f"`{DECODER}`"
            )
        recipe["name"] = recipe["name"].removeprefix(PRIVILEGED)
        metadata = metadata | {"recipe": json.dumps(recipe)}
    elif not inside:
        raise WeightsError(f"{path.name}: there is no decoder in it; name it without `{DECODER}`")
    return path, inside, metadata


def load_into(network: VideoSR, where: str | Path) -> None:
    """Load weights into a network that is there.

    Args:
        network: what is filled, in place.
        where: a file, ``pretrained:NAME``, or ``decoder:FILE``: the decoder of a privileged teacher, for its student.

    Raises:
        WeightsError: they belong to another network; says which, or which tensor does not fit.
    """
    path, tensors, metadata = _open(where)
    if "recipe" in metadata:
        theirs, ours = _recipe(path, metadata), network.recipe
        if ours and theirs["name"] != ours["name"]:
            its_decoder = theirs["name"] == f"{PRIVILEGED}{ours['name']}"
            raise WeightsError(
                f"{path.name}: these are weights of {theirs['name']}, not of {ours['name']}"
                + (f"; `{DECODER}{where}` takes those of its decoder" if its_decoder else "")
            )
        if ours and theirs.get("skip") != ours.get("skip"):
            raise WeightsError(
                f"{path.name}: trained with skip {theirs.get('skip')!r}, this network has {ours.get('skip')!r}: "
                "its pictures would be wrong; set the skip of the network to that of its weights"
            )
    fill(network, tensors, path.name)


def read_card(where: str | Path) -> dict[str, Any]:
    """What the file says of itself: recipe, data, steps, seed, scores."""
    path = locate(where)
    _, metadata = read_tensors(path)
    return {"recipe": _recipe(path, metadata), **json.loads(metadata.get("card", "{}"))}


def _recipe(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT or "recipe" not in metadata:
        raise WeightsError(
            f"{path}: not weights of this workbench (no recipe inside), or of a newer version; weights of other code "
            "bases are read by models.foreign.load_foreign and `workbench convert`"
        )
    return json.loads(metadata["recipe"])


def fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Load a state dict; every tensor must be there, fit, be finite, and be used. Else nothing is loaded.

    Args:
        network: what is filled, in place.
        tensors: by the network's own names; of any floating-point precision.
        source: where they come from, for the messages.

    Raises:
        WeightsError: says which tensors are missing, not known, of another shape or not finite.
    """
    own = network.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or extra:
        lines = [f"{said} {_listed(names)}" for said, names in (("missing", missing), ("not known", extra)) if names]
        raise WeightsError(f"{source}: these weights belong to another network: {'; '.join(lines)}")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{source}: {name} is {tuple(tensor.shape)}, this network wants {tuple(own[name].shape)} "
                "(another scale or width?)"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{source}: {name} holds NaN or infinite numbers; the training that wrote it went wrong")
    network.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def _listed(names: list[str]) -> str:
    return f"{names[:LISTED]}{f' and {len(names) - LISTED} more' if len(names) > LISTED else ''}"
