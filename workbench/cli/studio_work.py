"""Jobs of the studio: ``python -m workbench.cli.studio_work KIND``, one process per job.

Reads one JSON object, and writes one a line; see :mod:`workbench.views.studio.job_queue`.
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

Report = Callable[[str], None]


def estimate(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Measure a few steps of a training."""
    from workbench.config import RunConfig
    from workbench.training import estimate as estimation
    from workbench.training.trainer import check
    from workbench.training.tuning import settle_tuning
    from workbench.training.worker import settle_precision

    config = RunConfig.from_dict(request)
    report("checking names, weights and data")
    check(config)
    config, _ = settle_precision(config)
    report("measuring the fastest settings")
    config, tuning = settle_tuning(config)
    report("measuring a few steps")
    measured = estimation.estimate(replace(config, threads=tuning.threads))
    return asdict(measured) | {"fits": measured.fits, "settings": tuning.reason}


def upscale(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Upscale a part of an uploaded video with several methods, and write the scene."""
    from workbench.data.video.color import Conversion
    from workbench.data.video.read import read_video
    from workbench.devices import choose_device
    from workbench.evaluation.rendering import render_scene

    report("reading the video")
    first, last = request["frames"]
    top, left, height, width = request["region"]
    conversion = Conversion(background=tuple(request["background"]))
    video = read_video(request["file"], first=first, last=last, on_damage="keep", conversion=conversion)
    part = replace(video, frames=video.frames[:, top : top + height, left : left + width].copy())
    del video
    methods = request["methods"]
    counts = iter(f" ({number} of {len(methods)})" for number in range(1, len(methods) + 1))
    scene = render_scene(
        part, methods, Path(request["folder"]), clip_is_ground_truth=request["ground_truth"], title=request["title"],
        runs=[Path(root) for root in request["runs"]], device=choose_device(),
        progress=lambda work: report(work + next(counts, "")),
    )  # fmt: skip
    return {"scene": scene.name, "frames": scene.frames}


def speed(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Measure time and memory of some networks on this machine."""
    from workbench.devices import choose_device
    from workbench.evaluation.speed import measure
    from workbench.models.catalog import read_catalog
    from workbench.models.zoo import build

    stored = {row["name"]: row for row in read_catalog().rows}
    rows, conditions = [], ""
    for name in request["names"]:
        report(f"measuring {name}")
        frames, rounds = request.get("frames", 5), request.get("rounds", 2)
        measured = measure(build(name), frames=frames, rounds=rounds, device=choose_device())
        conditions = measured.conditions
        rows.append(
            {
                "name": name,
                "parameters": stored[name]["parameters"],
                "macs": stored[name]["macs"],
                "seconds_per_frame": measured.seconds_per_frame,
                "peak_bytes": measured.peak_bytes,
            }
        )
    return {"rows": rows, "conditions": conditions}


KINDS: dict[str, Callable[[Mapping[str, Any], Report], dict[str, Any]]] = {
    "estimate": estimate,
    "upscale": upscale,
    "speed": speed,
}


def command_line(kind: str) -> list[str]:
    """Return the command line of a job."""
    return [sys.executable, "-m", "workbench.cli.studio_work", kind]


def main(kind: str) -> int:
    """Run the job on stdin; return the exit status."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")

    def write(**answer: Any) -> None:
        output.write(json.dumps(answer) + "\n")
        output.flush()

    request = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # output of libraries is no answer
        try:
            write(result=KINDS[kind](request, lambda text: write(status=text)))
            return 0
        except WorkbenchError as error:
            write(error=str(error))
        except OSError as error:
            write(error=f"{error.strerror or error}: the job could not finish; is the disk of the studio full?")
        except MemoryError:
            write(error="out of memory; select a smaller part or fewer networks")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
