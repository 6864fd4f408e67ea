"""The page Your video: bring a clip, choose a part of it, see it enlarged; take the result home or delete it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.data.video.transfer import plan_transfer
from workbench.errors import ConfigError, FolderError, WorkbenchError
from workbench.runs import Run, list_runs
from workbench.views.studio.desk import CONVERSION, Clip, Desk
from workbench.views.studio.folders import Studio
from workbench.views.studio.jobs import UNKNOWN, Job, Jobs
from workbench.views.studio.page import LIVE_SECONDS, QUIET, QUIET_SECONDS, data_of, head, part, user_of
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

    def begin(self, user: str = "") -> dict[str, Any]:
        """The whole page, as this user sees it."""
        if self.services is None:
            return {"message": ONLY_LOOKING}
        self.desk.tidy()  # what is too old is not shown any more
        room, clip = self.desk.room, self.desk.newest(user)
        limits = {
            "frames": room.frames, "pixels": room.pixels, "side": room.side, "scale": 4, "bytes": room.film.bytes,
            "seconds": room.film.seconds,
        }  # fmt: skip
        shown = {"limits": limits, "methods": self.methods(), "problem": ""} | self.now(user)
        return shown | ({"clip": self.describe(clip, 0)} if clip else {})

    def describe(self, clip: Clip, frame: int) -> dict[str, Any]:
        """A clip and one of its frames."""
        info = clip.info
        notes = [one.text for one in plan_transfer(clip.path, info, None, CONVERSION).treatments]
        notes += [] if info.constant_rate else ["variable frame rate, which results keep"]
        if info.pixel_aspect != 1:
            ratio = f"{info.pixel_aspect.numerator}:{info.pixel_aspect.denominator}"
            notes.append(f"pixel aspect ratio {ratio}: shown with square pixels here, kept in .mp4 results")
        notes += ["results have no audio; `workbench upscale` keeps it"] if info.audio else []
        return {
            "key": clip.key, "title": clip.title, "width": info.width, "height": info.height, "frames": info.frames,
            "fps": info.fps, "seconds": info.seconds, "codec": info.codec, "notes": notes, "frame": frame,
            "picture": self.desk.preview(clip, frame),
        }  # fmt: skip

    def opened(self, data: Mapping[str, Any], user: str = "") -> dict[str, Any]:
        """A clip that was uploaded, or another frame of it."""
        frame = data.get("frame", 0)
        if type(frame) is not int:
            raise ConfigError("frame: want a whole number")
        clip = self.desk.clip(data.get("clip"), user)
        return {"clip": self.describe(clip, min(max(frame, 0), clip.info.frames - 1)), "problem": ""}

    def ask(self, data: Mapping[str, Any], user: str = "") -> Job:
        """Put the enlarging of a part of a clip into the line.

        Raises:
            WorkbenchError: in words.
        """
        if self.services is None:
            raise FolderError(ONLY_LOOKING)
        order = self.desk.part(data, user)
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
            "folder": str(self.desk.new_scene(user)),
            "runs": [str(Path(root).resolve()) for root in self.studio.runs],
        }
        return self.jobs.ask("enlarge", order["title"], self.services.command("enlarge"), order, owner=user)

    def cancel(self, data: Mapping[str, Any], user: str = "") -> dict[str, Any]:
        """End a job of this user's.

        Raises:
            FolderError: there is none, or it is somebody else's.
        """
        job = self.jobs.job(data.get("job"))
        if job.about.get("owner", "") != user:
            raise FolderError(UNKNOWN)
        self.jobs.cancel(job.key)
        return self.now(user)

    def delete(self, data: Mapping[str, Any], user: str = "") -> dict[str, Any]:
        """Remove a result of this user's.

        Raises:
            FolderError: there is none, or it is somebody else's.
        """
        self.desk.delete(data.get("scene"), user)
        return self.now(user)

    def keep(self, data: Mapping[str, Any], user: str = "") -> dict[str, Any]:
        """Keep a result of this user's beyond the studio's end.

        Raises:
            FolderError: there is none, it is somebody else's, or it cannot be kept.
        """
        self.desk.keep(data.get("scene"), user)
        return self.now(user)

    def now(self, user: str = "") -> dict[str, Any]:
        """What is being done, and what came out; of other people's videos only that one is at work."""
        jobs = []
        for job in self.jobs.known("enlarge"):
            if job.state == "done" or job.about.get("owner", "") != user:
                continue
            ahead = self.jobs.ahead(job)
            said = f"{ahead} before it" if ahead else job.said
            jobs.append({"key": job.key, "title": job.title, "state": job.state, "said": said, "over": job.over})
        results = [
            {
                "name": scene.name, "title": scene.title, "frames": scene.frames, "scored": bool(scene.curves),
                "size": f"{scene.width}x{scene.height}", "kept": self.desk.kept(scene.name),
                "methods": [{"key": method.key, "label": method.label} for method in scene.methods],
            }
            for scene in self.desk.results(user)
        ]  # fmt: skip
        others = [
            {"title": job.title if job.about.get("owner", user) == user else "somebody's video", "state": job.state}
            for job in self.jobs.known()
            if job.state == "working"
        ]
        return {"jobs": jobs, "results": results, "line": others, "keeps": self.desk.keeps}


def keeping(desk: Desk) -> str:
    """How long videos stay, and who sees them."""
    if not desk.lasts:
        return "and goes when the studio ends, with those results that you do not keep."
    hours = f"{desk.room.seconds / 3600:.0f} hours"
    return f"for up to {hours}, and only you can see it; results that you keep stay until you delete them."


def video_page(app: gr.Blocks, videos: Videos) -> None:
    """Lay out the page."""
    head(
        "Your video",
        "Bring a clip of your own and see a part of it enlarged four times, by several networks side by side. It stays "
        "on the machine of the studio, " + keeping(videos.desk),
    )
    sheet = part("video", {"message": "Loading …"}, elem_id="video-sheet")
    seen, timer = gr.State({}), gr.Timer(QUIET_SECONDS)

    def load(request: gr.Request) -> list[Any]:
        return [videos.begin(user_of(request)), {}]

    def words(act: Callable[..., dict[str, Any]], event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        try:
            return act(data_of(event), user_of(request))
        except WorkbenchError as error:
            return {"problem": str(error)}

    def ask(event: gr.EventData, request: gr.Request) -> list[Any]:
        def act(data: Mapping[str, Any], user: str) -> dict[str, Any]:
            videos.ask(data, user)
            return {"problem": ""} | videos.now(user)

        return [words(act, event, request), gr.Timer(LIVE_SECONDS)]

    def show(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return words(videos.opened, event, request)

    def cancel(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return words(videos.cancel, event, request)

    def delete(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return words(videos.delete, event, request)

    def keep(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return words(videos.keep, event, request)

    def tick(before: dict[str, Any], request: gr.Request) -> list[Any]:
        if videos.services is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        now = videos.now(user_of(request))
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
    sheet.keep(keep, None, sheet, **QUIET)
