"""``workbench evaluate`` and ``compare``: numbers and pictures of networks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.cli.terminal import RUNS, SCENES, notes, score_table
from workbench.scenes import check_name


def evaluate(args: Sequence[str]) -> int:
    """Score networks on a data set under a named protocol."""

    def command(
        *,
        network: str = "bicubic",
        protocol: str = "held_out",
        data: str = "",
        format: Literal["text", "json", "markdown"] = "text",
        temporal: bool = False,
        device: str = "auto",
        runs: Path = RUNS,
    ) -> int:
        """Score networks on a data set. Results go to stdout, everything else to stderr.

        Args:
            network: one or more methods, separated by commas: bicubic, plain, distilled, teacher, a weights file,
                RUN or RUN@STEP.
            protocol: which frames, channel and border count: vid4, folders (any folder of folders of frames), or
                held_out (the part of the sample clip that the shipped networks have not seen).
            data: the folder of the data set; held_out needs none.
            format: text for people, json or markdown for everything else.
            temporal: also score T-diff and tOF, which takes longer.
            device: auto, cpu, cuda, mps.
            runs: where runs are looked for.
        """
        import torch

        from workbench.evaluation.compare import find_method
        from workbench.evaluation.protocols import evaluate, find_protocol
        from workbench.evaluation.tables import render
        from workbench.inference import choose_device

        torch.set_num_threads(os.cpu_count() or 1)
        chosen = find_protocol(protocol)
        contenders = [find_method(name.strip(), scale=chosen.scale, runs=[runs]) for name in network.split(",")]
        reports = []
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=notes) as bar:
            for contender in contenders:
                task = bar.add_task(contender.method.key, total=None)

                def observe(
                    clip: str, done: int, clips: int, task: Any = task, label: str = contender.method.key
                ) -> None:
                    bar.update(task, description=f"{label} {clip}", completed=done, total=clips)

                place = choose_device(device)
                name = contender.method.key
                reports.append(
                    evaluate(
                        contender.network, data, chosen, name=name, device=place, temporal=temporal, progress=observe
                    )
                )
        if format == "json":
            records = [report.to_dict() for report in reports]
            print(json.dumps(records[0] if len(records) == 1 else records, indent=1, allow_nan=False))
        else:
            print("\n\n".join(render(report, format) for report in reports))
        return 0

    return tyro.cli(command, args=list(args), prog="workbench evaluate")


def compare(args: Sequence[str]) -> int:
    """Render a clip with several methods into a scene to look at."""

    def command(
        *,
        clip: str = "bigbuckbunny[96:120, :, 0:352]",
        methods: str = "bicubic,plain,distilled,teacher",
        out: Path = SCENES / "scene",
        title: str = "",
        scale: int = 4,
        device: str = "auto",
        runs: Path = RUNS,
        replace: bool = False,
        effort: int = 0,
    ) -> int:
        """Shrink a clip, let each method enlarge it again, score it, and write a scene that `workbench app` shows.

        Args:
            clip: a sample's name (see `workbench samples`) or the path of a video or frame folder, with an optional
                crop: name[frames, rows, columns].
            methods: separated by commas: bicubic, plain, distilled, teacher, a weights file, RUN or RUN@STEP.
            out: the scene folder to write; its name is the scene's.
            title: what people read.
            scale: how much the clip is shrunk.
            device: auto, cpu, cuda, mps.
            runs: where runs are looked for.
            replace: overwrite a scene that is there.
            effort: of the lossless compression: 0 is fast, 6 is a fifth smaller and twenty times slower.
        """
        import torch

        from workbench.evaluation.compare import compare
        from workbench.inference import choose_device

        check_name(out.name, "scene")
        torch.set_num_threads(os.cpu_count() or 1)
        names = [name.strip() for name in methods.split(",") if name.strip()]
        with notes.status("reading the clip") as status:
            scene = compare(
                clip, names, out, scale=scale, title=title, runs=[runs], device=choose_device(device),
                replace=replace, effort=effort, progress=status.update,
            )  # fmt: skip
        Console().print(score_table(scene, f"{scene.title}: mean over {scene.frames} frames"))
        notes.print(f"scene: {out}; look at it with `workbench app --scenes {out.parent}`")
        return 0

    return tyro.cli(command, args=list(args), prog="workbench compare")
