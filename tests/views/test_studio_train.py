"""Train page: form, estimate and start of runs, and the job queue; scripts replace the workers."""

import inspect
import json
import os
import signal
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import fields, replace

import psutil
import pytest

from tests import specimens
from tests.visitors import make_services, wait_until
from workbench import runs as run_folders
from workbench.config import MINIMUMS, Data, RunConfig
from workbench.errors import BusyError, ConfigError, FolderError, WorkbenchError
from workbench.presets import PRESETS
from workbench.runs import RunWriter, create_run
from workbench.settings import flatten
from workbench.views.studio import Studio, form
from workbench.views.studio.job_queue import MAX_QUEUED, JobQueue
from workbench.views.studio.train import Train, estimate_text


def script(text: str) -> list[str]:
    """Return a command that runs the text; it reads ``request`` and answers with ``write``."""
    lead = "import json, sys, time\nrequest = json.load(sys.stdin)\ndef write(**w): print(json.dumps(w), flush=True)\n"
    return [sys.executable, "-c", lead + textwrap.dedent(text)]


ESTIMATE = """
write(status='measuring')
write(result={'seconds_per_step': 0.5, 'peak_mib': 512.0, 'free_mib': 2048.0, 'fits': True})
"""


@pytest.fixture
def services():
    return make_services(
        names=lambda: {"student.name": ["vespcn", "vespcn_s"]},
        command=lambda kind: script(ESTIMATE),
        methods=lambda: {"bicubic": "Bicubic"},
    )


@pytest.fixture
def started(monkeypatch):
    """Names of the started runs, and whether they are queued."""
    seen = []
    monkeypatch.setattr(run_folders, "start_worker", lambda run, queue=False: seen.append((run.name, queue)))
    return seen


@pytest.fixture
def queue():
    made = JobQueue()
    yield made
    made.close()


@pytest.fixture
def train(tmp_path, queue, services):
    (tmp_path / "runs").mkdir()
    return Train(Studio(runs=[tmp_path / "runs"], scenes=[]), queue, services)


def sheet(**changes):
    return {"values": form.values_of(PRESETS["smoke"]()) | changes, "preset": "smoke", "name": "", "queue": False}


class TestForm:
    def test_every_setting_occurs_once_and_has_a_description(self):
        known = form.form_fields()
        assert set(known) == set(flatten(RunConfig().to_dict()))
        assert [name for name, one in known.items() if not one.help] == []
        shown = [name for group in form.grouped() for name in group["fields"]]
        assert sorted(shown) == sorted(known)

    def test_kinds_choices_and_ranges_come_from_the_config(self):
        known = form.form_fields()
        assert known["data.crop_size"].kind == "integer"
        assert known["data.crop_size"].minimum == 8
        assert known["data.clips"].kind == "texts"
        assert known["optimizer.betas"].kind == "numbers"
        assert known["distillation.memory_mode"].choices == ("frozen", "trained", "trained_then_frozen")
        assert known["data.augment"].kind == "flag"
        assert "`" not in known["data.clips"].help
        assert {name for name, one in known.items() if one.minimum is not None} >= set(MINIMUMS)

    @pytest.mark.parametrize("name", MINIMUMS)
    def test_the_minimum_of_the_form_is_enforced(self, name):
        least = MINIMUMS[name]
        if name != "optimizer.gradient_accumulation_steps":  # must divide the batch, too
            form.parse({name: least})
        with pytest.raises(ConfigError, match=f"^{name}: want {least} or more"):
            form.parse({name: least - 1})

    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_values_of_a_preset_parse_to_the_same_config(self, preset):
        config = PRESETS[preset]()
        values = json.loads(json.dumps(form.values_of(config)))
        assert form.parse(values) == config

    @pytest.mark.parametrize(
        ("values", "pattern"),
        [
            (None, "want settings by name"),
            ({"stepz": 3}, "no setting 'stepz'"),
            ({"steps": "many"}, "steps: want a whole number"),
            ({"steps": 2.5}, "steps: want a whole number"),
            ({"steps": True}, "steps: want a whole number"),
            ({"steps": 10**400}, r"2\*\*53"),
            ({"steps": ""}, "steps: want a whole number, got ''"),
            ({"optimizer.learning_rate": float("nan")}, "finite"),
            ({"optimizer.learning_rate": 10**400}, r"2\*\*53"),
            ({"optimizer.betas": [1]}, "want two numbers"),
            ({"optimizer.betas": ["a", "b"]}, "want a list of numbers"),
            ({"data.clips": "bikes"}, "want a list of text"),
            ({"data.clips": [1]}, "want a list of text"),
            ({"data.clips": []}, "name at least one clip"),
            ({"data.clips": ["a\0b"]}, "printable"),
            ({"student.name": "x" * 5000}, "printable"),
            ({"data": {}}, "no setting 'data'"),
            ({"distillation.memory_mode": "melted"}, "want one of frozen"),
            ({"data.scale": 7}, "want 2, 3 or 4"),
        ],
    )
    def test_invalid_values_are_refused(self, values, pattern):
        with pytest.raises(ConfigError, match=pattern):
            form.parse(values)

    def test_help_is_that_of_the_right_field(self):
        source = inspect.getsource(Data)
        for one in fields(Data):
            first = form.form_fields()[f"data.{one.name}"].help.split()[0]
            assert source.split(f"    {one.name}: ")[1].split('"""')[1].startswith(first.strip("`"))


class TestStart:
    def test_start_writes_the_run_folder_and_starts_the_worker(self, train, started):
        run = train.start(sheet() | {"name": "first"})
        assert run.name == "first"
        assert run.config() == PRESETS["smoke"]()
        assert started == [("first", False)]

    def test_a_run_without_a_name_has_a_generated_one(self, train, started):
        assert train.start(sheet()).name.startswith("smoke-2")

    def test_a_second_run_is_refused_unless_it_is_queued(self, train, started):
        live = specimens.make_run(train.studio.runs[0] / "live")
        writer = RunWriter(live.folder)
        specimens.write_status(live, "running", 3)
        with pytest.raises(BusyError, match=r"live .*training"):
            train.start(sheet() | {"name": "second"})
        assert not (train.studio.runs[0] / "second").exists()
        train.start(sheet() | {"name": "second", "queue": True})
        assert started == [("second", True)]
        writer.close()

    def test_two_clicks_start_one_run(self, train, started):
        train.start(sheet() | {"name": "one"})
        with pytest.raises(BusyError, match="one is training"):
            train.start(sheet() | {"name": "two"})

    def test_an_existing_name_is_refused(self, train, started):
        specimens.write_status(create_run(train.studio.runs[0] / "one", PRESETS["smoke"]()), "finished", 2)
        with pytest.raises(FolderError, match="one: exists already"):
            train.start(sheet() | {"name": "one"})
        assert not started

    @pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "x" * 70, "<b>", 7, None])
    def test_invalid_names_are_refused(self, train, started, name):
        with pytest.raises(WorkbenchError):
            train.start(sheet() | {"name": name})
        assert not started
        assert not list(train.studio.runs[0].iterdir())

    def test_an_error_names_the_setting(self, train, started):
        with pytest.raises(ConfigError, match=r"^data\.crop_size: want 8 or more"):
            train.start(sheet(**{"data.crop_size": 4}))

    def test_an_unexpected_error_is_reported(self, train, started, services):
        def prepare(folder, config):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        failing = Train(train.studio, train.queue, replace(services, prepare=prepare))
        with pytest.raises(ConfigError, match="cannot be trained: mat1"):
            failing.start(sheet())

    def test_a_run_can_be_duplicated(self, train):
        run = specimens.make_run(train.studio.runs[0] / "mine", steps=77)
        filled = train.duplicate("0/mine")
        assert form.parse(filled["values"]) == run.config()
        assert "mine" in filled["note"]

    def test_resume_queues_only_on_request(self, train, started):
        for name, state in (("old", "stopped"), ("live", "running")):
            run = specimens.make_run(train.studio.runs[0] / name)
            specimens.write_status(run, state, 3)
        writer = RunWriter(run.folder)
        with pytest.raises(BusyError, match="select Queue"):
            train.studio.resume("0/old")
        assert "is queued" in train.studio.resume("0/old", queue=True)
        assert started == [("old", True)]
        writer.close()


class TestEstimate:
    def test_an_estimate_is_measured_and_reported(self, train):
        job = train.estimate(sheet())
        wait_until(lambda: job.finished)
        shown, in_progress = train.estimate_state(job.key)
        assert not in_progress
        assert shown["estimate"].startswith("About 1 s for 2 steps (0.5 s each), without snapshots. Needs 0.5 GiB")

    def test_too_little_memory_is_reported(self):
        seen = {"seconds_per_step": 1.0, "peak_mib": 4000.0, "free_mib": 2000.0, "fits": False}
        assert "halve the batch size" in estimate_text(seen, 10, 0)

    def test_an_invalid_config_is_refused_before_anything_runs(self, train, queue):
        with pytest.raises(ConfigError, match="crop"):
            train.estimate(sheet(**{"data.crop_size": -1}))
        assert not queue.jobs()

    def test_unknown_keys_are_refused(self, train):
        for key in (None, "", "nothing", 7, [], {}):
            with pytest.raises(FolderError, match="not known any more"):
                train.estimate_state(key)


class TestJobQueue:
    def test_jobs_run_one_at_a_time_in_order(self, queue, tmp_path):
        log = tmp_path / "log"
        text = """
            import os
            open(request['log'], 'a').write(request['n'] + 'b')
            while not os.path.exists(request['log'] + '.go'): time.sleep(0.01)
            open(request['log'], 'a').write('e ')
            write(result={})
        """
        submitted = [queue.submit("x", n, script(text), {"log": str(log), "n": n}) for n in "123"]
        assert [queue.ahead(job) for job in submitted][-1] >= 1
        (tmp_path / "log.go").touch()
        for job in submitted:
            wait_until(lambda job=job: job.finished)
        assert log.read_text() == "1be 2be 3be "

    def test_output_of_libraries_is_ignored(self, queue):
        job = queue.submit(
            "x", "x", script("print('noise'); write(status='half'); print('[1]'); write(result={'a': 1})"), {}
        )
        wait_until(lambda: job.finished)
        assert (job.state, job.result) == ("done", {"a": 1})

    def test_an_error_of_a_job_is_its_message(self, queue):
        job = queue.submit("x", "x", script("write(error='no such clip'); sys.exit(1)"), {})
        wait_until(lambda: job.finished)
        assert (job.state, job.message) == ("failed", "no such clip")

    @pytest.mark.posix
    @pytest.mark.parametrize(
        ("end", "pattern"), [("sys.exit(3)", "exit status 3"), ("import os; os.kill(os.getpid(), 9)", "out of memory")]
    )
    def test_the_exit_of_a_job_is_explained(self, queue, end, pattern, monkeypatch):
        monkeypatch.delattr(signal, "SIGKILL", raising=False)
        job = queue.submit("x", "x", script(end), {})
        wait_until(lambda: job.finished)
        assert job.state == "failed"
        assert pattern in job.message

    @pytest.mark.posix
    def test_a_missing_command_is_reported(self, queue):
        job = queue.submit("x", "x", ["/nonexistent/thing"], {})
        wait_until(lambda: job.finished)
        assert "cannot be started" in job.message
        job = queue.submit("x", "y", script("write(result={})"), {})
        wait_until(lambda: job.finished)
        assert job.state == "done"

    def test_cancel_terminates_a_job_and_its_children(self, queue, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "killpg", raising=False)  # as on Windows
        pids = tmp_path / "pid"
        text = """
            import subprocess
            child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
            open(request['pids'], 'w').write(str(child.pid)); write(status='begun'); time.sleep(60)
        """
        job = queue.submit("x", "x", script(text), {"pids": str(pids)})
        while job.message != "begun":
            time.sleep(0.01)
        waiting = queue.submit("x", "later", script("write(result={})"), {})
        queue.cancel(job.key)
        assert job.state == "canceled"
        wait_until(lambda: waiting.finished)
        assert waiting.state == "done"
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(int(pids.read_text())).status() == psutil.STATUS_ZOMBIE

    def test_a_queued_job_can_be_canceled(self, queue):
        slow = queue.submit("x", "slow", script("time.sleep(60)"), {})
        second = queue.submit("x", "second", script("write(result={})"), {})
        queue.cancel(second.key)
        assert second.state == "canceled"
        assert queue.ahead(second) == 0
        queue.cancel(slow.key)

    def test_the_queue_is_bounded(self, queue):
        slow = queue.submit("x", "slow", script("time.sleep(60)"), {})
        while slow.state == "queued":
            time.sleep(0.01)
        for n in range(MAX_QUEUED):
            queue.submit("x", str(n), script("write(result={})"), {})
        with pytest.raises(BusyError, match=f"at most {MAX_QUEUED} jobs"):
            queue.submit("x", "one too many", script("write(result={})"), {})

    def test_a_job_beyond_the_time_limit_is_terminated(self):
        queue = JobQueue(time_limit_seconds=0.3)
        job = queue.submit("x", "x", script("time.sleep(60)"), {})
        wait_until(lambda: job.finished)
        assert "Time limit" in job.message
        queue.close()
