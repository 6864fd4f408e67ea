"""Your video page: upload a video, select a part, upscale it with several networks, download or save the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.data.video.transfer import plan_transfer
from workbench.errors import ConfigError, FolderError, WorkbenchError
from workbench.runs import Run, list_runs
from workbench.views.serving import session_of
from workbench.views.studio.folders import Studio
from workbench.views.studio.form import check_selection
from workbench.views.studio.job_queue import UNKNOWN_JOB, Job, JobQueue
from workbench.views.studio.page import (
    ACTION,
    IMMEDIATE,
    LIVE_SECONDS,
    QUIET_SECONDS,
    component,
    event_data,
    page_heading,
)
from workbench.views.studio.services import Services
from workbench.views.studio.sessions import GRACE_SECONDS
from workbench.views.studio.upload_store import CONVERSION, SCALE, Upload, UploadStore

MAX_METHODS = 6


class Videos:
    """Actions of the page.

    Args:
        studio: runs, whose students are methods.
        store: uploads and results.
        queue: queue of the jobs.
        services: functions and commands that need networks.
    """

    def __init__(self, studio: Studio, store: UploadStore, queue: JobQueue, services: Services) -> None:
        self.studio, self.store, self.queue, self.services = studio, store, queue, services

    def methods(self) -> dict[str, str]:
        """Return the labels of the methods by name."""
        given = dict(self.services.methods())
        students: dict[str, str] = {}
        for root in self.studio.runs:
            for name in list_runs(root):
                if Run(root / name).weights().is_file():
                    key = str(root / name) if name in given else name  # the name alone would be ambiguous
                    students.setdefault(key, f"{name} (student of this run)")
        return given | students

    def load(self, session: str) -> dict[str, Any]:
        """Return the whole page of a session."""
        self.store.clean()
        quota, upload = self.store.quota, self.store.newest(session)
        limits = {
            "frames": quota.frames, "pixels": quota.pixels, "side": quota.side, "scale": SCALE,
            "bytes": quota.file.bytes, "seconds": quota.file.seconds,
        }  # fmt: skip
        page = {"limits": limits, "methods": self.methods(), "can_save": self.store.can_save, "problem": ""}
        return page | self.state(session) | ({"upload": self.describe(upload, 0)} if upload else {})

    def describe(self, upload: Upload, frame: int) -> dict[str, Any]:
        """Return the facts of an upload, and a preview of one frame."""
        info = upload.info
        notes = [one.text for one in plan_transfer(upload.path, info, None, CONVERSION).treatments]
        notes += [] if info.constant_rate else ["variable frame rate, kept in the results"]
        if info.pixel_aspect != 1:
            ratio = f"{info.pixel_aspect.numerator}:{info.pixel_aspect.denominator}"
            notes.append(f"pixel aspect ratio {ratio}: shown with square pixels here, kept in .mp4 results")
        notes += ["results have no audio; `workbench upscale` keeps it"] if info.audio else []
        return {
            "key": upload.key, "title": upload.title, "width": info.width, "height": info.height,
            "frames": info.frames, "fps": info.fps, "codec": info.codec, "notes": notes,
            "image": self.store.preview(upload, frame),
        }  # fmt: skip

    def open(self, data: Mapping[str, Any], session: str) -> dict[str, Any]:
        """Return the description of an upload with a preview of another frame."""
        frame = data.get("frame", 0)
        if type(frame) is not int:
            raise ConfigError("frame: want a whole number")
        upload = self.store.upload(data.get("upload"), session)
        return {"upload": self.describe(upload, frame), "problem": ""}

    def submit(self, data: Mapping[str, Any], session: str) -> Job:
        """Queue the upscaling of a part of an upload.

        Raises:
            WorkbenchError: invalid selection, or the queue is full.
        """
        request = self.store.selection(data, session)
        methods = check_selection("methods", data.get("methods"), self.methods(), MAX_METHODS)
        first, last = request["frames"]
        part = f"frame {first + 1}" if last - first == 1 else f"frames {first + 1} to {last}"
        request |= {
            "title": f"{request['title']}, {part}",
            "methods": methods,
            "folder": str(self.store.new_scene(session)),
            "runs": [str(Path(root).resolve()) for root in self.studio.runs],
        }
        return self.queue.submit("upscale", request["title"], self.services.command("upscale"), request, session)

    def cancel(self, data: Mapping[str, Any], session: str) -> None:
        """Cancel a job of this session."""
        job = self.queue.job(data.get("job"))
        if job.session != session:
            raise FolderError(UNKNOWN_JOB)
        self.queue.cancel(job.key)

    def delete(self, data: Mapping[str, Any], session: str) -> None:
        """Delete a result of this session."""
        self.store.delete(data.get("scene"), session)

    def save(self, data: Mapping[str, Any], session: str) -> None:
        """Save a result of this session as a scene."""
        self.store.save_as_scene(data.get("scene"), session)

    def state(self, session: str) -> dict[str, Any]:
        """Return the jobs and results of a session, and whether another job is running."""
        own = [job for job in self.queue.jobs("upscale") if session and job.session == session and job.state != "done"]
        results = [
            {
                "name": scene.name, "title": scene.title, "frames": scene.frames, "scored": bool(scene.curves),
                "size": f"{scene.width}x{scene.height}", "saved": self.store.is_saved(scene.name),
                "methods": [{"key": method.key, "label": method.label} for method in scene.methods],
            }
            for scene in self.store.results(session)
        ]  # fmt: skip
        running = next((job for job in self.queue.jobs() if job.state == "running"), None)
        other = "" if running is None or (session and running.session == session) else running.kind
        return {"jobs": [self.queue.describe(job) for job in own], "results": results, "other": other}


def video_page(app: gr.Blocks, videos: Videos) -> None:
    """Lay out the page."""
    saving = "Save a result as a scene to keep it." if videos.store.can_save else "Download a result to keep it."
    page_heading(
        "Your video",
        "Upload a video and upscale a part of it four times with several networks side by side. Uploads and results "
        f"are visible in this browser only, and are deleted {GRACE_SECONDS / 60:.0f} minutes after its last page is "
        f"closed. {saving}",
    )
    form = component("video", {}, elem_id="video-form")
    previous, timer = gr.State({}), gr.Timer(QUIET_SECONDS)

    def load(request: gr.Request) -> list[Any]:
        return [videos.load(session_of(request)), {}]

    def handler(action: Callable[[Mapping[str, Any], str], Any]) -> Callable[..., dict[str, Any]]:
        def handle(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
            session = session_of(request)
            try:
                answer = action(event_data(event), session)
            except WorkbenchError as error:
                return {"problem": str(error)}
            return answer if action == videos.open else {"problem": ""} | videos.state(session)

        handle.__qualname__ = action.__qualname__
        return handle

    def tick(previous: dict[str, Any], request: gr.Request) -> list[Any]:
        state = videos.state(session_of(request))
        if state == previous:
            return [gr.skip(), gr.skip(), gr.skip()]
        live = any(not job["finished"] for job in state["jobs"])
        return [state, state, gr.Timer(LIVE_SECONDS if live else QUIET_SECONDS)]

    app.load(load, None, [form, previous], **IMMEDIATE)
    timer.tick(tick, previous, [form, previous, timer], **IMMEDIATE)
    form.open(handler(videos.open), None, form, trigger_mode="always_last", **IMMEDIATE)
    submitted = form.submit(handler(videos.submit), None, form, **ACTION)
    submitted.then(lambda: gr.Timer(LIVE_SECONDS), None, timer, **IMMEDIATE)
    form.cancel(handler(videos.cancel), None, form, **ACTION)
    form.delete(handler(videos.delete), None, form, **ACTION)
    form.save(handler(videos.save), None, form, **ACTION)
