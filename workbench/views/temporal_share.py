"""Stored temporal share of the shipped networks: gain over bicubic with true neighbors, copies, and another clip."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from workbench.pretrained import HOME, SET, shipped_networks
from workbench.scenes import Scene
from workbench.views.scene_tables import html_table
from workbench.views.student_losses import compared_outputs

STORED = HOME / "temporal_share.json"
"""Written by ``workbench evaluate --neighbors``; the command is in ``docs/networks.md``."""

COLUMNS = {"true": "true", "copies": "copies", "other": "other clip"}
"""Kinds of neighbors that the pages show, of those that are stored."""

DIFFERENCE = "true − copies"  # noqa: RUF001
NOT_MEASURED = "not measured"
COMMAND = "workbench evaluate --neighbors true,copies,other"
WITHOUT_NETWORK = ("low", "high", "bicubic")


@dataclass(frozen=True)
class StoredShare:
    """Temporal share of one network as stored.

    Attributes:
        checksum: first digits of the SHA-256 of its weights.
        conditions: set, degradation, number of frames.
        numbers: PSNR-Y gains over bicubic in dB, one for each of :data:`COLUMNS`, and their :data:`DIFFERENCE`.
    """

    checksum: str
    conditions: str
    numbers: Sequence[float]


def read_shares() -> dict[str, StoredShare]:
    """Return the stored temporal shares by the name of the network; none where there is no file."""
    shares = {}
    for report in json.loads(STORED.read_text(encoding="utf-8"))["scores"] if STORED.is_file() else ():
        share, protocol = report["temporal_share"], report["protocol"]
        frames = sum(len(clip["number"]) for clip in share["per_frame"].values())
        shares[report["network"]] = StoredShare(
            _checksum(report["provenance"]["method"]),
            f"{frames} frames of {report['data']}, {protocol['degradation'].upper()} x{protocol['scale']}",
            [*(share["gain_db"][name] for name in COLUMNS), share["true_minus_copies_db"]],
        )
    return shares


def _checksum(note: str) -> str:
    found = re.search(r"sha256 ([0-9a-f]{12})", note)
    return found[1] if found else ""


def shipped_shares() -> list[dict[str, Any]]:
    """Return name, role, losses, conditions and numbers of the shipped networks, those of the set first.

    Networks whose share is not stored have None instead of the numbers.
    """
    stored, roles = read_shares(), {name: role for role, name in SET.items()}
    order = sorted(shipped_networks(), key=lambda name: ([*roles, name].index(name), name))
    rows = [(name, stored.get(name)) for name in order]
    return [
        {
            "name": name,
            "role": roles.get(name, ""),
            "learned": learned_from(name),
            "conditions": share.conditions if share else "",
            "numbers": share.numbers if share else None,
        }
        for name, share in rows
    ]


def learned_from(name: str) -> str:
    """Return the targets of the training of a shipped network."""
    losses = shipped_networks()[name]
    return "ground truth" + (f"; {SET['teacher']}'s {compared_outputs(losses)}" if losses else "")


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
    conditions = "; ".join(dict.fromkeys(share.conditions for share in known))
    caption = f"PSNR-Y gain over bicubic in dB with these neighbor frames; {conditions}, not this clip"
    absent = f"<td colspan='{len(COLUMNS) + 1}'>{NOT_MEASURED}</td>"
    rows = []
    for method in methods:
        share = found[method.key]
        cells = "".join(f"<td>{number:+.3f}</td>" for number in share.numbers) if share else absent
        rows.append(f"<tr><th scope='row'>{escape(method.label)}</th>{cells}</tr>")
    return html_table([*COLUMNS.values(), DIFFERENCE], rows, caption=escape(caption))
