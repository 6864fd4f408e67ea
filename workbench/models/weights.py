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

from workbench.aliases import PARAMETERS
from workbench.atomic_files import write_atomic
from workbench.errors import WeightsError, unknown_name
from workbench.models import hub
from workbench.models.video_sr import VideoSR
from workbench.models.zoo import PRIVILEGED, build
from workbench.weight_files import check_weight_file

FORMAT = "1"
PRETRAINED = "pretrained:"
DECODER = "decoder:"
"""Prefix ``decoder:FILE`` for the decoder in the file of a privileged teacher, with which its student starts."""
PICKLES = (".pth", ".pt", ".ckpt", ".pkl", ".bin", ".tar")
"""Suffixes of files by torch.save."""
MAX_LISTED_TENSORS = 20
"""Number of missing or unknown tensors that an error lists."""


def pretrained_names() -> list[str]:
    """Return the names of the weights that ship with the package."""
    home = resources.files("workbench.pretrained")
    return sorted(p.name.removesuffix(".safetensors") for p in home.iterdir() if p.name.endswith(".safetensors"))


def locate(where: str | Path) -> Path:
    """Return the path for ``pretrained:NAME``, ``hub:OWNER/NAME`` (downloaded first), ``decoder:FILE`` or a path.

    Raises:
        UnknownNameError: the package has no weights of that name.
        WeightsError: no such file, here or on the hub.
    """
    where = where.removeprefix(DECODER) if isinstance(where, str) else where
    if isinstance(where, str) and where.startswith(PRETRAINED):
        name = where.removeprefix(PRETRAINED)
        if name not in pretrained_names():
            raise unknown_name("pretrained weights", name, pretrained_names())
        return Path(str(resources.files("workbench.pretrained") / f"{name}.safetensors"))
    if isinstance(where, str) and where.startswith(hub.HUB):
        return hub.download(where)
    path = Path(where)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; names for `{PRETRAINED}NAME` are {', '.join(pretrained_names())}")
    return path


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically: readers find either the old or the new file."""
    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_atomic(path, to_bytes(plain, dict(metadata) if metadata else None))  # {} makes an unreadable file


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read tensors and their metadata.

    Raises:
        WeightsError: not a safetensors file, or a truncated one; the message contains its type.
    """
    check_weight_file(path)
    if path.suffix in PICKLES:
        raise WeightsError(
            f"{path}: want a safetensors file; weights of other code bases are read by models.conversion."
            f"load_converted, and converted by `workbench convert {path} {path.with_suffix('.safetensors').name}`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a safetensors file that can be read ({error}); download or copy it again"
        ) from error


def save(network: VideoSR, path: Path, *, half: bool = False, **card: Any) -> None:
    """Write a network's weights with the recipe to rebuild it.

    A network that the zoo did not build (an adapted one, or a class of your own) has no recipe. Register it:
    ``zoo.NETWORKS["mine"] = a_function_that_builds_it``, then ``zoo.build("mine")``; its file can be loaded after the
    same line. Or write its tensors alone, :func:`save_tensors` of its ``state_dict()``, and read them with
    :func:`load_into` into an existing network.

    Args:
        network: by :func:`workbench.models.zoo.build`.
        path: the ``.safetensors`` file to write.
        half: store in half precision (converted to float32 when loaded).
        card: further JSON-serializable metadata (data, steps, seed, scores).

    Raises:
        WeightsError: the network has no recipe.
    """
    if not network.recipe:
        raise WeightsError(
            "network: want one by zoo.build, got one without a recipe; for a network of your own set "
            'zoo.NETWORKS["mine"] = a_function_that_builds_it first; or write its tensors alone with '
            "weights.save_tensors and read them with weights.load_into"
        )
    tensors = network.state_dict()
    if half:
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "recipe": json.dumps(network.recipe), "card": json.dumps(card)}
    save_tensors(path, tensors, metadata)


def load(where: str | Path) -> VideoSR:
    """Load weights into a new network of their recipe, in evaluation mode.

    Raises:
        WeightsError: the file is damaged, is not of this package, or does not fit its own recipe.
    """
    path, tensors, metadata = _open(where)
    network = build(**_recipe(path, metadata))
    fill(network, tensors, path.name)
    return network.eval()


def _open(where: str | Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors and metadata of a file; those of ``decoder:FILE`` as if the decoder had been saved alone."""
    path = locate(where)
    stored, metadata = read_tensors(path)
    tensors = {".".join(PARAMETERS.get(part, part) for part in name.split(".")): stored[name] for name in stored}
    if not (isinstance(where, str) and where.startswith(DECODER)):
        return path, tensors, metadata
    inside = {name.removeprefix("decoder."): tensor for name, tensor in tensors.items() if name.startswith("decoder.")}
    if "recipe" in metadata:
        recipe = _recipe(path, metadata)
        if not recipe["name"].startswith(PRIVILEGED):
            raise WeightsError(
                f"{path.name}: want weights of a privileged teacher, got {recipe['name']}; name it without `{DECODER}`"
            )
        recipe["name"] = recipe["name"].removeprefix(PRIVILEGED)
        metadata = metadata | {"recipe": json.dumps(recipe)}
    elif not inside:
        raise WeightsError(f"{path.name}: no decoder in it; name it without `{DECODER}`")
    return path, inside, metadata


def load_into(network: VideoSR, where: str | Path) -> None:
    """Load weights into an existing network.

    Args:
        network: filled in place.
        where: a file, ``pretrained:NAME``, ``hub:OWNER/NAME``, or ``decoder:FILE``: the decoder of a
            privileged teacher, for its student.

    Raises:
        WeightsError: they belong to another network, or a tensor does not fit.
    """
    path, tensors, metadata = _open(where)
    if "recipe" in metadata:
        stored, ours = _recipe(path, metadata), network.recipe
        if ours and stored["name"] != ours["name"]:
            its_decoder = stored["name"] == f"{PRIVILEGED}{ours['name']}"
            raise WeightsError(
                f"{path.name}: want weights of {ours['name']}, got {stored['name']}"
                + (f"; `{DECODER}{where}` reads those of its decoder" if its_decoder else "")
            )
        if ours and stored.get("skip") != ours.get("skip"):
            raise WeightsError(
                f"{path.name}: trained with skip {stored.get('skip')!r}, this network has {ours.get('skip')!r}: "
                "set the skip of the network to that of its weights, in a training by --student.skip, --teacher.skip "
                f"or --plain.skip {stored.get('skip')}"
            )
    fill(network, tensors, path.name)


def read_card(where: str | Path) -> dict[str, Any]:
    """Return the metadata of a file: recipe, data, steps, seed, scores."""
    path = locate(where)
    _, metadata = read_tensors(path)
    return {"recipe": _recipe(path, metadata), **json.loads(metadata.get("card", "{}"))}


def _recipe(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT or "recipe" not in metadata:
        raise WeightsError(
            f"{path}: not weights of this workbench (no recipe inside), or of a newer version; weights of other code "
            "bases are read by models.conversion.load_converted and `workbench convert`"
        )
    return json.loads(metadata["recipe"])


def fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Load a state dict completely, or not at all: every tensor must exist, fit, be finite, and be used.

    Args:
        network: filled in place.
        tensors: by the network's own names; of any floating-point precision.
        source: their origin, for messages.

    Raises:
        WeightsError: tensors are missing, unknown, of another shape or not finite.
    """
    own = network.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or extra:
        lines = [f"{fault} {_listed(names)}" for fault, names in (("missing", missing), ("unknown", extra)) if names]
        raise WeightsError(f"{source}: weights of another network: {'; '.join(lines)}")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{source}: {name} is {tuple(tensor.shape)}, the network needs {tuple(own[name].shape)} "
                "(another scale or width?)"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(f"{source}: {name} contains NaN or infinite values; the training that wrote it failed")
    network.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_LISTED_TENSORS
    return f"{names[:MAX_LISTED_TENSORS]}{f' and {more} more' if more > 0 else ''}"
