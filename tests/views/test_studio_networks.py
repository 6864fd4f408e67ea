"""The Networks page: the stored table and a measurement; and who may log in."""

import sys

import pytest

from workbench.cli.studio import read_auth
from workbench.errors import BusyError, ConfigError, FolderError
from workbench.runs import create_run
from workbench.views.studio import Services
from workbench.views.studio.jobs import Jobs
from workbench.views.studio.networks import Networks

WORK = {"speed": "tell(done={'rows': [{'name': n} for n in order['names']], 'conditions': 'here'})"}


@pytest.fixture
def asked():
    return []


@pytest.fixture
def networks(asked):
    lead = "import json, sys, time\norder = json.load(sys.stdin)\ndef tell(**w): print(json.dumps(w), flush=True)\n"

    def command(kind):
        asked.append(kind)
        return [sys.executable, "-c", lead + WORK[kind]]

    services = Services(prepare=create_run, names=dict, command=command, methods=dict)
    jobs = Jobs()
    yield Networks(jobs, services)
    jobs.close()


def test_the_whole_table_is_there_at_once(networks, asked):
    rows = {row["name"]: row for row in networks.now()["rows"]}
    assert (networks.now()["size"], len(rows)) == ("180x120", 26)
    assert rows["vespcn_paper"]["macs"] == 1_474_070_400  # by hand in tests/models/test_cost.py
    assert asked == []
    assert not networks.busy


def test_a_measurement(networks, asked):
    job = networks.measure(["vespcn", "edvr_m"])
    assert networks.busy
    networks.jobs.wait(job)
    assert (job.state, networks.busy, asked) == ("done", False, ["speed"])
    assert networks.now()["measured"]["conditions"] == "here"


@pytest.mark.parametrize("names", [None, [], "vespcn", ["vespcn"] * 3, ["none"], [7], [{}], {"vespcn": 1}])
def test_refuses_other_names_in_words(networks, names):
    with pytest.raises(ConfigError):
        networks.measure(names)


def test_one_measurement_at_a_time(networks):
    networks.measure(["vespcn"])
    with pytest.raises(BusyError, match="under way"):
        networks.measure(["edvr_m"])


def test_only_looking():
    without = Networks(Jobs(), None)
    assert len(without.now()["rows"]) == 26
    with pytest.raises(FolderError, match="workbench app"):
        without.measure(["vespcn"])


def test_who_may_log_in(tmp_path):
    (tmp_path / "auth").write_text("me:word\n\n  you : a:b \n")
    assert read_auth(str(tmp_path / "auth")) == {"me": "word", "you": "a:b"}
    assert read_auth("me:a:b") == {"me": "a:b"}
    (tmp_path / "empty").write_text("")
    for bad in ("me", "me:", ":word", str(tmp_path / "empty"), str(tmp_path / "none")):
        with pytest.raises(ConfigError, match="USER:PASSWORD"):
            read_auth(bad)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("me:word\nyou:\n", "line 2: want USER:PASSWORD, and neither may be empty"),
        ("me:word\n:secret\n", "line 2: want USER:PASSWORD, and neither may be empty"),
        ("me:word\nsecond\n", "line 2: want USER:PASSWORD, and neither may be empty"),
        ("me:word\n\nme:secret\n", "line 3: the user 'me' is there already; every name once"),
        ("\n\n", "nobody is named"),
    ],
)
def test_files_that_say_not_clearly_who_may_log_in(tmp_path, text, said):
    (tmp_path / "auth").write_text(text)
    with pytest.raises(ConfigError, match=said) as refused:
        read_auth(str(tmp_path / "auth"))
    assert "secret" not in str(refused.value)
