"""Stored temporal share of the shipped networks: gain over bicubic with true neighbors, copies, and another clip."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from safetensors import safe_open

from workbench.scenes import Method, Scene

PRETRAINED = Path(__file__).parents[1] / "pretrained"
STORED = PRETRAINED / "temporal_share.json"
"""Written by ``workbench evaluate --neighbors``; the command is in ``docs/networks.md``."""

COLUMNS = {"true": "true", "copies": "copies", "other": "other clip"}
"""Kinds of neighbors that the pages show, of those that are stored."""

DIFFERENCE = "true − copies"  # noqa: RUF001
NOT_MEASURED = "not measured"
COMMAND = "workbench evaluate --neighbors true,copies,other"
WITHOUT_NETWORK = ("low", "high", "bicubic")


@dataclass(frozen=True, kw_only=True)
class StoredShare:
    """Temporal share of one network as stored.

    Attributes:
        checksum: first digits of the SHA-256 of its weights.
        conditions: set, degradation, number of frames, length of the window.
        gain_db: neighbors -> mean PSNR-Y gain over bicubic.
        true_minus_copies_db: difference of two of them.
    """

    checksum: str
    conditions: str
    gain_db: Mapping[str, float]
    true_minus_copies_db: float

    @property
    def numbers(self) -> list[float]:
        """The numbers that the pages show: one for each of :data:`COLUMNS`, and :data:`DIFFERENCE`."""
        return [*(self.gain_db[name] for name in COLUMNS), self.true_minus_copies_db]


def read_shares(path: Path | None = None) -> dict[str, StoredShare]:
    """Return the stored temporal shares by the name of the network; none where there is no file."""
    path = path or STORED
    if not path.is_file():
        return {}
    reports = json.loads(path.read_text(encoding="utf-8"))["scores"]
    return {report["network"]: _share(report) for report in reports}


def _share(report: Mapping[str, Any]) -> StoredShare:
    share, protocol = report["temporal_share"], report["protocol"]
    frames = sum(len(clip["number"]) for clip in share["per_frame"].values())
    return StoredShare(
        checksum=_checksum(report["provenance"]["method"]),
        conditions=f"{frames} frames of {report['data']}, {protocol['degradation'].upper()} x{protocol['scale']}",
        gain_db=share["gain_db"],
        true_minus_copies_db=share["true_minus_copies_db"],
    )


def _checksum(note: str) -> str:
    found = re.search(r"sha256 ([0-9a-f]{12})", note)
    return found[1] if found else ""


def shipped_networks() -> list[str]:
    """Return the names of the networks that come with the package: weights with the recipe of a network inside."""
    return [path.stem for path in sorted(PRETRAINED.glob("*.safetensors")) if "recipe" in _metadata(path)]


def _metadata(path: Path) -> Mapping[str, str]:
    with safe_open(path, framework="np") as opened:
        return opened.metadata() or {}


def shipped_shares() -> list[dict[str, Any]]:
    """Return name, conditions and numbers of every shipped network; None instead of the numbers that are not stored."""
    stored = read_shares()
    return [
        {
            "name": name,
            "conditions": stored[name].conditions if name in stored else "",
            "numbers": stored[name].numbers if name in stored else None,
        }
        for name in shipped_networks()
    ]


def scene_table(scene: Scene) -> str:
    """Return the temporal share of the networks of a scene as a table of HTML.

    Networks are recognized by the checksum of their weights in the note of the method.
    """
    stored = {share.checksum: share for share in read_shares().values()}
    methods = [method for method in scene.methods if method.key not in WITHOUT_NETWORK]
    if not methods:
        return "<p>No network in this scene.</p>"
    found = {method.key: stored.get(_checksum(method.note) or "none") for method in methods}
    known = [share for share in found.values() if share is not None]
    if not known:
        return f"<p>Not measured for the networks of this scene; <code>{COMMAND}</code> measures it.</p>"
    heads = "".join(f"<th scope='col'>{escape(head)}</th>" for head in (*COLUMNS.values(), DIFFERENCE))
    rows = "".join(_row(method, found[method.key]) for method in methods)
    conditions = "; ".join(dict.fromkeys(share.conditions for share in known))
    caption = f"PSNR-Y gain over bicubic in dB with these neighbor frames; {conditions}, not this clip"
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr><td></td>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _row(method: Method, share: StoredShare | None) -> str:
    cells: Sequence[str] = [f"<td>{number:+.3f}</td>" for number in share.numbers] if share else []
    nothing = f"<td colspan='{len(COLUMNS) + 1}'>{escape(NOT_MEASURED)}</td>"
    return f"<tr><th scope='row'>{escape(method.label)}</th>{''.join(cells) or nothing}</tr>"
