"""The page Your video: bring a clip, choose a part of it, see it enlarged; take the result home or delete it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.errors import ConfigError, FolderError, WorkbenchError
from workbench.runs import Run, list_runs
from workbench.views.studio.desk import Clip, Desk
from workbench.views.studio.folders import Studio
from workbench.views.studio.jobs import Job, Jobs
from workbench.views.studio.page import LIVE_SECONDS, QUIET, QUIET_SECONDS, data_of, head, part
from workbench.views.studio.services import Services

MOST_METHODS = 6
ONLY_LOOKING = "This studio is only for looking; open it with `workbench app` to enlarge videos of your own."


class Videos:
    """What the page asks for.

    Args:
        studio: the runs whose students can be chosen.
        desk: where videos and results lie.
        jobs: where the work is done.
        services: what needs networks; None: nothing can be enlarged.
    """

    def __init__(self, studio: Studio, desk: Desk, jobs: Jobs, services: Services | None) -> None:
        self.studio, self.desk, self.jobs, self.services = studio, desk, jobs, services

    def methods(self) -> dict[str, str]:
        """What a video can be enlarged by: name -> what a person reads."""
        if self.services is None:
            return {}
        named = dict(self.services.methods())
        for root in self.studio.runs:
            for name in list_runs(root):
                if Run(root / name).weights().is_file():
                    named.setdefault(name, f"{name} (the student of this run)")
        return named

    def begin(self) -> dict[str, Any]:
        """The whole page."""
        if self.services is None:
            return {"message": ONLY_LOOKING}
        room, clip = self.desk.room, self.desk.newest()
        limits = {
            "frames": room.frames, "pixels": room.pixels, "side": room.side, "scale": 4, "bytes": room.film.bytes,
            "seconds": room.film.seconds,
        }  # fmt: skip
        shown = {"limits": limits, "methods": self.methods(), "problem": ""} | self.now()
        return shown | ({"clip": self.describe(clip, 0)} if clip else {})

    def describe(self, clip: Clip, frame: int) -> dict[str, Any]:
        """A clip and one of its frames."""
        info = clip.info
        notes = [f"{info.bits} bits a sample, rounded to 8"] if info.bits > 8 else []
        notes += ["turned upright"] if info.turned else []
        notes += ["uneven frame times, played evenly"] if not info.constant_rate else []
        return {
            "key": clip.key, "title": clip.title, "width": info.width, "height": info.height, "frames": info.frames,
            "fps": info.fps, "seconds": info.seconds, "codec": info.codec, "notes": notes, "frame": frame,
            "picture": self.desk.preview(clip, frame),
        }  # fmt: skip

    def opened(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A clip that was uploaded, or another frame of it."""
        frame = data.get("frame", 0)
        if type(frame) is not int:
            raise ConfigError("frame: want a whole number")
        clip = self.desk.clip(data.get("clip"))
        return {"clip": self.describe(clip, min(max(frame, 0), clip.info.frames - 1)), "problem": ""}

    def ask(self, data: Mapping[str, Any]) -> Job:
        """Put the enlarging of a part of a clip into the line.

        Raises:
            WorkbenchError: in words.
        """
        if self.services is None:
            raise FolderError(ONLY_LOOKING)
        order = self.desk.part(data)
        methods, known = data.get("methods"), self.methods()
        if not isinstance(methods, list) or not methods or len(methods) > MOST_METHODS:
            raise ConfigError(f"methods: choose one to {MOST_METHODS}")
        for name in methods:
            if not isinstance(name, str) or name not in known:
                raise ConfigError(f"methods: no {str(name)[:40]!r}; choose some of the list")
        first, last = order["frames"]
        which = f"frame {first + 1}" if last - first == 1 else f"frames {first + 1} to {last}"
        order |= {
            "title": f"{order['title']}, {which}",
            "methods": list(dict.fromkeys(methods)),
            "folder": str(self.desk.new_scene()),
            "runs": [str(Path(root).resolve()) for root in self.studio.runs],
        }
        return self.jobs.ask("enlarge", order["title"], self.services.command("enlarge"), order)

    def now(self) -> dict[str, Any]:
        """What is being done, and what came out."""
        jobs = []
        for job in self.jobs.known("enlarge"):
            if job.state == "done":
                continue
            ahead = self.jobs.ahead(job)
            said = f"{ahead} before it" if ahead else job.said
            jobs.append({"key": job.key, "title": job.title, "state": job.state, "said": said, "over": job.over})
        results = [
            {
                "name": scene.name, "title": scene.title, "frames": scene.frames, "scored": bool(scene.curves),
                "size": f"{scene.width}x{scene.height}",
                "methods": [{"key": method.key, "label": method.label} for method in scene.methods],
            }
            for scene in self.desk.results()
        ]  # fmt: skip
        others = [entry for entry in self.jobs.line() if entry["state"] == "working"]
        return {"jobs": jobs, "results": results, "line": others}


def video_page(app: gr.Blocks, videos: Videos) -> None:
    """Lay out the page."""
    head(
        "Your video",
        "Bring a clip of your own and see a part of it enlarged four times, by several networks side by side. It stays "
        "on the machine of the studio, and goes when the studio ends.",
    )
    sheet = part("video", {"message": "Loading …"}, elem_id="video-sheet")
    seen, timer = gr.State({}), gr.Timer(QUIET_SECONDS)

    def load() -> list[Any]:
        return [videos.begin(), {}]

    def words(act: Any, event: gr.EventData) -> dict[str, Any]:
        try:
            return act(data_of(event))
        except WorkbenchError as error:
            return {"problem": str(error)}

    def ask(event: gr.EventData) -> list[Any]:
        def act(data: Mapping[str, Any]) -> dict[str, Any]:
            videos.ask(data)
            return {"problem": ""} | videos.now()

        return [words(act, event), gr.Timer(LIVE_SECONDS)]

    def show(event: gr.EventData) -> dict[str, Any]:
        return words(videos.opened, event)

    def cancel(event: gr.EventData) -> dict[str, Any]:
        def act(data: Mapping[str, Any]) -> dict[str, Any]:
            videos.jobs.cancel(data.get("job"))
            return videos.now()

        return words(act, event)

    def delete(event: gr.EventData) -> dict[str, Any]:
        def act(data: Mapping[str, Any]) -> dict[str, Any]:
            videos.desk.delete(data.get("scene"))
            return videos.now()

        return words(act, event)

    def tick(before: dict[str, Any]) -> list[Any]:
        if videos.services is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        now = videos.now()
        if now == before:
            return [gr.skip(), gr.skip(), gr.skip()]
        live = any(not job["over"] for job in now["jobs"])
        return [now, now, gr.Timer(LIVE_SECONDS if live else QUIET_SECONDS)]

    app.load(load, None, [sheet, seen], **QUIET)
    timer.tick(tick, seen, [sheet, seen, timer], **QUIET)
    sheet.open(show, None, sheet, trigger_mode="always_last", **QUIET)
    sheet.ask(ask, None, [sheet, timer], **QUIET)
    sheet.cancel(cancel, None, sheet, **QUIET)
    sheet.delete(delete, None, sheet, **QUIET)
