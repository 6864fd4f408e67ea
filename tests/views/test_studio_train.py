"""The Train page: the form made from the config, the line of jobs, and starting runs; workers are stood in for."""

import json
import os
import signal
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import fields

import psutil
import pytest

from workbench import runs as run_folders
from workbench.config import MINIMUMS, PRESETS, Data, RunConfig, flat
from workbench.errors import BusyError, ConfigError, FolderError, WorkbenchError
from workbench.runs import RunWriter, create_run
from workbench.views.studio import Services, Studio, form
from workbench.views.studio.jobs import WAITING, Jobs
from workbench.views.studio.train import Train, estimate_words


def script(text: str) -> list[str]:
    """A command that does what the text says; ``order`` is what it was asked, ``tell`` how it answers."""
    lead = "import json, sys, time\norder = json.load(sys.stdin)\ndef tell(**w): print(json.dumps(w), flush=True)\n"
    return [sys.executable, "-c", lead + textwrap.dedent(text)]


ESTIMATE = (
    "tell(say='measuring'); tell(done={'seconds_per_step': 0.5, 'peak_mib': 512.0, 'free_mib': 2048.0, 'fits': True})"
)


@pytest.fixture
def services():
    return Services(
        prepare=create_run,
        names=lambda: {"student.name": ["vespcn", "vespcn_s"]},
        command=lambda kind: script(ESTIMATE),
        methods=lambda: {"bicubic": "Bicubic"},
    )


@pytest.fixture
def started(monkeypatch):
    """Names of the runs whose worker was started, and whether it waits in line."""
    seen = []
    monkeypatch.setattr(run_folders, "start_worker", lambda run, queue=False: seen.append((run.name, queue)))
    return seen


@pytest.fixture
def jobs():
    made = Jobs()
    yield made
    made.close()


@pytest.fixture
def train(tmp_path, jobs, services):
    (tmp_path / "runs").mkdir()
    return Train(Studio(runs=[tmp_path / "runs"], scenes=[]), jobs, services)


def sheet(**changes):
    return {"values": form.values_of(PRESETS["smoke"]()) | changes, "preset": "smoke", "name": "", "wait": False}


class TestForm:
    def test_every_setting_is_there_once_with_a_meaning(self):
        known = form.form_fields()
        assert set(known) == set(flat(RunConfig().to_dict()))
        assert [name for name, one in known.items() if not one.help] == []
        shown = [name for group in form.grouped() for name in group["fields"]]
        assert sorted(shown) == sorted(known)

    def test_kinds_choices_and_ranges_come_from_the_config(self):
        known = form.form_fields()
        assert known["data.crop_size"].kind == "whole"
        assert known["data.crop_size"].least == 8
        assert known["data.clips"].kind == "texts"
        assert known["optimizer.betas"].kind == "numbers"
        assert known["distillation.memory"].choices == ("frozen", "trained", "trained_then_frozen")
        assert known["data.augment"].kind == "yes"
        assert known["data.clips"].help.startswith("What is trained on; also a folder that workbench prepare made")
        assert {name for name, one in known.items() if one.least is not None} >= set(MINIMUMS)

    @pytest.mark.parametrize("name", MINIMUMS)
    def test_a_range_is_the_one_that_is_enforced(self, name):
        least = MINIMUMS[name]
        if name != "optimizer.gradient_accumulation_steps":  # must divide the batch, too
            form.read({name: least})
        with pytest.raises(ConfigError, match=f"^{name}: want {least} or more"):
            form.read({name: least - 1})

    @pytest.mark.parametrize("preset", PRESETS)
    def test_what_is_shown_reads_back_as_the_same(self, preset):
        config = PRESETS[preset]()
        values = json.loads(json.dumps(form.values_of(config)))
        assert form.read(values) == config

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            (None, "want settings by name"),
            ({"stepz": 3}, "no setting 'stepz'"),
            ({"steps": "many"}, "steps: want a whole number"),
            ({"steps": 2.5}, "steps: want a whole number"),
            ({"steps": True}, "steps: want a whole number"),
            ({"steps": 10**400}, "ordinary size"),
            ({"steps": ""}, "steps: want a whole number, got ''"),
            ({"optimizer.learning_rate": float("nan")}, "finite"),
            ({"optimizer.learning_rate": 10**400}, "ordinary size"),
            ({"optimizer.betas": [1]}, "want two numbers"),
            ({"optimizer.betas": ["a", "b"]}, "want a list of numbers"),
            ({"data.clips": "bikes"}, "want a list of text"),
            ({"data.clips": [1]}, "want a list of text"),
            ({"data.clips": []}, "name at least one clip"),
            ({"data.clips": ["a\0b"]}, "printable"),
            ({"student.name": "x" * 5000}, "printable"),
            ({"data": {}}, "no setting 'data'"),
            ({"distillation.memory": "melted"}, "want one of frozen"),
            ({"data.scale": 7}, "want 2, 3 or 4"),
        ],
    )
    def test_refuses_in_words(self, values, says):
        with pytest.raises(ConfigError, match=says):
            form.read(values)

    def test_help_is_that_of_the_right_field(self):
        texts = {one.name: form.form_fields()[f"data.{one.name}"].help for one in fields(Data)}
        assert texts["crop"] == "Side of the training crops, in low-resolution pixels."
        assert texts["scale"] == "How many times larger the output is."


class TestStart:
    def test_lays_out_and_starts(self, train, started):
        run = train.start(sheet() | {"name": "first"})
        assert run.name == "first"
        assert run.config() == PRESETS["smoke"]()
        assert started == [("first", False)]

    def test_makes_a_name(self, train, started):
        assert train.start(sheet()).name.startswith("smoke-2")

    def test_a_second_one_is_refused_unless_it_waits(self, train, started, specimens):
        live = specimens.make_run(train.studio.runs[0] / "live")
        writer = RunWriter(live.folder)
        specimens.say(live, "running", 3)
        with pytest.raises(BusyError, match="live is training on this machine"):
            train.start(sheet() | {"name": "second"})
        assert not (train.studio.runs[0] / "second").exists()
        train.start(sheet() | {"name": "second", "wait": True})
        assert started == [("second", True)]
        writer.close()

    def test_two_clicks_start_one(self, train, started):
        train.start(sheet() | {"name": "one"})
        with pytest.raises(BusyError, match="one is training"):
            train.start(sheet() | {"name": "two"})

    def test_a_name_twice(self, train, started, specimens):
        specimens.say(create_run(train.studio.runs[0] / "one", PRESETS["smoke"]()), "finished", 2)
        with pytest.raises(FolderError, match="something already"):
            train.start(sheet() | {"name": "one"})
        assert not started

    @pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "x" * 70, "<b>", 7, None])
    def test_bad_names(self, train, started, name):
        with pytest.raises(WorkbenchError):
            train.start(sheet() | {"name": name})
        assert not started
        assert not list(train.studio.runs[0].iterdir())

    def test_says_what_is_wrong_with_a_setting(self, train, started):
        with pytest.raises(ConfigError, match=r"^data\.crop: want 8 or more"):
            train.start(sheet(**{"data.crop_size": 4}))

    def test_what_no_check_foresaw_is_said_too(self, train, started, services):
        def prepare(folder, config):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        odd = Train(train.studio, train.jobs, Services(**{**vars(services), "prepare": prepare}))
        with pytest.raises(ConfigError, match="cannot be trained: mat1"):
            odd.start(sheet())

    def test_duplicates_a_run(self, train, specimens):
        run = specimens.make_run(train.studio.runs[0] / "mine", steps=77)
        filled = train.duplicate("0/mine")
        assert form.read(filled["values"]) == run.config()
        assert "mine" in filled["note"]

    def test_only_looking(self, train, jobs):
        without = Train(train.studio, jobs, None)
        assert "workbench app" in without.describe()["message"]
        for act in (without.start, without.estimate):
            with pytest.raises(FolderError, match="only for looking"):
                act(sheet())

    def test_resume_waits_only_if_told(self, train, started, specimens):
        for name, state in (("old", "stopped"), ("live", "running")):
            run = specimens.make_run(train.studio.runs[0] / name)
            specimens.say(run, state, 3)
        writer = RunWriter(run.folder)
        with pytest.raises(BusyError, match="wait in line"):
            train.studio.resume("0/old")
        assert "turn" in train.studio.resume("0/old", wait=True)
        assert started == [("old", True)]
        writer.close()


class TestEstimate:
    def test_is_measured_and_said(self, train, jobs):
        job = train.estimate(sheet())
        jobs.wait(job)
        shown, more = train.estimated(job.key)
        assert not more
        assert shown["estimate"].startswith("About 0:00:01 for 2 steps (0.5 s each), and 0.5 GiB")

    def test_what_does_not_fit(self):
        seen = {"seconds_per_step": 1.0, "peak_mib": 4000.0, "free_mib": 2000.0, "fits": False}
        assert "halve the batch" in estimate_words(seen, 10)

    def test_refuses_a_wrong_config_before_anything_runs(self, train, jobs):
        with pytest.raises(ConfigError, match="crop"):
            train.estimate(sheet(**{"data.crop_size": -1}))
        assert not jobs.known()

    def test_stranger_keys(self, train):
        for key in (None, "", "nothing", 7, [], {}):
            with pytest.raises(FolderError, match="not known any more"):
                train.estimated(key)


class TestJobs:
    def test_one_at_a_time_in_order(self, jobs, tmp_path):
        log = tmp_path / "log"
        text = """
            import os
            open(order['log'], 'a').write(order['n'] + 'b')
            while not os.path.exists(order['log'] + '.go'): time.sleep(0.01)
            open(order['log'], 'a').write('e ')
            tell(done={})
        """
        asked = [jobs.ask("x", n, script(text), {"log": str(log), "n": n}) for n in "123"]
        assert [jobs.ahead(job) for job in asked][-1] >= 1
        (tmp_path / "log.go").touch()
        for job in asked:
            jobs.wait(job)
        assert log.read_text() == "1be 2be 3be "

    def test_words_on_the_way_and_noise_between(self, jobs):
        job = jobs.ask("x", "x", script("print('noise'); tell(say='half'); print('[1]'); tell(done={'a': 1})"), {})
        jobs.wait(job)
        assert (job.state, job.result) == ("done", {"a": 1})

    def test_errors_come_in_words(self, jobs):
        job = jobs.ask("x", "x", script("tell(error='no such clip'); sys.exit(1)"), {})
        jobs.wait(job)
        assert (job.state, job.said) == ("failed", "no such clip")

    @pytest.mark.posix
    @pytest.mark.parametrize(
        ("end", "says"),
        [("sys.exit(3)", "without a word"), ("import os; os.kill(os.getpid(), 9)", "want of memory")],
    )
    def test_a_death_is_noticed(self, jobs, end, says, monkeypatch):
        monkeypatch.delattr(signal, "SIGKILL", raising=False)
        job = jobs.ask("x", "x", script(end), {})
        jobs.wait(job)
        assert job.state == "failed"
        assert says in job.said

    @pytest.mark.posix
    def test_a_command_that_is_not_there(self, jobs):
        job = jobs.ask("x", "x", ["/nonexistent/thing"], {})
        deadline = time.monotonic() + 60
        while not job.over and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "could not be begun" in job.said
        assert jobs.wait(jobs.ask("x", "y", script("tell(done={})"), {})).state == "done"

    def test_cancel_ends_it_and_its_children(self, jobs, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "killpg", raising=False)  # as on Windows
        pids = tmp_path / "pid"
        text = """
            import subprocess
            child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
            open(order['pids'], 'w').write(str(child.pid)); tell(say='begun'); time.sleep(60)
        """
        job = jobs.ask("x", "x", script(text), {"pids": str(pids)})
        while job.said != "begun":
            time.sleep(0.01)
        waiting = jobs.ask("x", "later", script("tell(done={})"), {})
        jobs.cancel(job.key)
        assert job.state == "cancelled"
        assert jobs.wait(waiting).state == "done"
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(int(pids.read_text())).status() == psutil.STATUS_ZOMBIE

    def test_cancel_in_line(self, jobs):
        slow = jobs.ask("x", "slow", script("time.sleep(60)"), {})
        second = jobs.ask("x", "second", script("tell(done={})"), {})
        jobs.cancel(second.key)
        assert second.state == "cancelled"
        assert all(entry["title"] != "second" for entry in jobs.line())
        jobs.cancel(slow.key)

    def test_the_line_has_an_end(self, jobs):
        slow = jobs.ask("x", "slow", script("time.sleep(60)"), {})
        while slow.state == "waiting":
            time.sleep(0.01)
        for n in range(WAITING):
            jobs.ask("x", str(n), script("tell(done={})"), {})
        with pytest.raises(BusyError, match="wait already"):
            jobs.ask("x", "one too many", script("tell(done={})"), {})

    def test_too_long_is_ended(self):
        jobs = Jobs(seconds=0.3)
        job = jobs.ask("x", "x", script("time.sleep(60)"), {})
        jobs.wait(job)
        assert "too long" in job.said
        jobs.close()
