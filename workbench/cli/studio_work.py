"""What the studio asks for and cannot do itself: ``python -m workbench.cli.studio_work KIND``, a process for one job.

Reads one JSON object, writes one a line: see :mod:`workbench.views.studio.jobs`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

Say = Callable[[str], None]


def estimate(order: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """A few steps of a training, measured."""
    from workbench.config import RunConfig
    from workbench.training.estimate import estimate as measured
    from workbench.training.trainer import check

    config = RunConfig.from_dict(order)
    say("checking names, weights and footage")
    check(config)
    say("measuring a few steps")
    seen = measured(config)
    return asdict(seen) | {"fits": seen.fits}


def enlarge(order: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """A part of somebody's video, as several methods enlarge it, as a scene."""
    from workbench.data.video.read import read_video
    from workbench.evaluation.compare import compare
    from workbench.inference.chunks import choose_device
    from workbench.views.studio.desk import CONVERSION

    say("reading the clip")
    first, last = order["frames"]
    top, left, height, width = order["region"]
    video = read_video(order["file"], first=first, last=last, on_damage="keep", conversion=CONVERSION)
    part = replace(video, frames=video.frames[:, top : top + height, left : left + width].copy())
    del video
    left = iter(f" ({number} of {len(order['methods'])})" for number in range(1, len(order["methods"]) + 1))
    scene = compare(
        part, order["methods"], Path(order["folder"]), truth=order["truth"], title=order["title"],
        runs=[Path(root) for root in order["runs"]], device=choose_device(),
        progress=lambda doing: say(doing + next(left, "")),
    )  # fmt: skip
    return {"scene": scene.name, "frames": scene.frames}


def speed(order: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Size, products and time of some networks, here."""
    from workbench.evaluation.speed import measure
    from workbench.inference.chunks import choose_device
    from workbench.models.catalog import read_catalog
    from workbench.models.zoo import build

    stored = {row["name"]: row for row in read_catalog().rows}
    rows, conditions = [], ""
    for name in order["names"]:
        say(f"measuring {name}")
        network = build(name)
        seen = measure(network, frames=order.get("frames", 5), rounds=order.get("rounds", 2), device=choose_device())
        conditions = seen.conditions
        rows.append(
            {
                "name": name,
                "parameters": stored[name]["parameters"],
                "macs": stored[name]["macs"],
                "seconds_per_frame": seen.seconds_per_frame,
                "peak_bytes": seen.peak_bytes,
            }
        )
    return {"rows": rows, "conditions": conditions}


KINDS: dict[str, Callable[[Mapping[str, Any], Say], dict[str, Any]]] = {
    "estimate": estimate,
    "enlarge": enlarge,
    "speed": speed,
}


def command(kind: str) -> list[str]:
    """The command line that does a job of this kind."""
    return [sys.executable, "-m", "workbench.cli.studio_work", kind]


def main(kind: str) -> int:
    """Do the job that comes on stdin; returns the exit status."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")

    def tell(**words: Any) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    order = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints is no answer
        try:
            tell(done=KINDS[kind](order, lambda words: tell(say=words)))
        except WorkbenchError as error:
            tell(error=str(error))
            return 1
        except OSError as error:
            tell(error=f"{error.strerror or error}: the work could not be finished; is the disk of the studio full?")
            return 1
        except MemoryError:
            tell(error="there is not enough memory for it; choose a smaller part or fewer networks")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
