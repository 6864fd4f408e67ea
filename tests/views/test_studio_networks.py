"""Networks page: the stored table and a measurement; and the users of a login."""

import sys

import pytest

from tests.visitors import make_services, wait_until
from workbench.cli.studio import read_auth
from workbench.errors import BusyError, ConfigError
from workbench.models.zoo import NETWORKS
from workbench.views.studio.job_queue import JobQueue
from workbench.views.studio.networks import Networks

WORK = {"speed": "tell(result={'rows': [{'name': n} for n in request['names']], 'conditions': 'here'})"}


@pytest.fixture
def asked():
    return []


@pytest.fixture
def networks(asked):
    lead = "import json, sys, time\nrequest = json.load(sys.stdin)\ndef tell(**w): print(json.dumps(w), flush=True)\n"

    def command(kind):
        asked.append(kind)
        return [sys.executable, "-c", lead + WORK[kind]]

    services = make_services(command=command, methods=dict)
    queue = JobQueue()
    yield Networks(queue, services)
    queue.close()


def test_the_table_is_complete_at_once(networks, asked):
    rows = {row["name"]: row for row in networks.state()["rows"]}
    assert networks.state()["size"] == "180x120"
    assert rows.keys() == NETWORKS.keys()
    assert rows["vespcn_paper"]["macs"] == 1_474_070_400  # by hand in tests/models/test_cost.py
    assert asked == []
    assert not networks.is_busy


def test_a_measurement_is_shown(networks, asked):
    job = networks.measure(["vespcn", "edvr_m"])
    assert networks.is_busy
    wait_until(lambda: job.finished)
    assert (job.state, networks.is_busy, asked) == ("done", False, ["speed"])
    assert networks.state()["measured"]["conditions"] == "here"


@pytest.mark.parametrize("names", [None, [], "vespcn", ["vespcn"] * 3, ["none"], [7], [{}], {"vespcn": 1}])
def test_other_names_are_refused(networks, names):
    with pytest.raises(ConfigError):
        networks.measure(names)


def test_one_measurement_at_a_time(networks):
    networks.measure(["vespcn"])
    with pytest.raises(BusyError, match="in progress"):
        networks.measure(["edvr_m"])


def test_users_are_read_from_a_file(tmp_path):
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
        ("me:word\nyou:\n", "line 2: want USER:PASSWORD"),
        ("me:word\n:secret\n", "line 2: want USER:PASSWORD"),
        ("me:word\nsecond\n", "line 2: want USER:PASSWORD"),
        ("me:word\n\nme:secret\n", "line 3: the user 'me' occurs twice"),
        ("\n\n", "empty file"),
    ],
)
def test_unclear_files_of_users_are_refused(tmp_path, text, said):
    (tmp_path / "auth").write_text(text)
    with pytest.raises(ConfigError, match=said) as refused:
        read_auth(str(tmp_path / "auth"))
    assert "secret" not in str(refused.value)
