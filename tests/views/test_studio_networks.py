"""The Networks page: a table that is made once, and a measurement that goes before it; and who may log in."""

import sys

import pytest

from workbench.cli.studio import read_auth
from workbench.errors import BusyError, ConfigError, FolderError
from workbench.runs import create_run
from workbench.views.studio import Services
from workbench.views.studio.jobs import Jobs
from workbench.views.studio.networks import Networks

WORK = {
    "networks": """
if order['macs']:
    time.sleep(order.get('slow', 0.5))
rows = [{'name': n, **({'macs': 5} if order['macs'] else {})} for n in ('small', 'large')]
tell(done={'rows': rows, 'size': '180x120'})
""",
    "speed": "tell(done={'rows': [{'name': n} for n in order['names']], 'conditions': 'here'})",
}


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


def listed(networks):
    networks.now()
    networks.jobs.wait(networks.jobs.known("networks")[0])
    return networks.now()


def test_the_table_is_made_when_it_is_asked_for_and_once(networks, asked):
    assert asked == []
    assert [row["name"] for row in listed(networks)["rows"]] == ["small", "large"]
    networks.jobs.wait(networks.jobs.known("networks")[1])
    for _ in range(3):
        assert networks.now()["rows"][0] == {"name": "small", "macs": 5}
    assert asked == ["networks", "networks"]
    assert not networks.busy


def test_a_measurement_goes_before_the_counting(networks, asked):
    listed(networks)
    job = networks.measure(["small", "large"])
    networks.jobs.wait(job)
    assert job.state == "done"
    seen = networks.now()
    assert seen["measured"]["conditions"] == "here"
    assert "macs" not in seen["rows"][0]  # the counting began anew
    networks.jobs.wait(networks.jobs.known("networks")[-1])
    assert networks.now()["rows"][0]["macs"] == 5


@pytest.mark.parametrize("names", [None, [], "small", ["small"] * 3, ["none"], [7], [{}], {"small": 1}])
def test_refuses_other_names_in_words(networks, names):
    listed(networks)
    with pytest.raises(ConfigError):
        networks.measure(names)


def test_one_measurement_at_a_time(networks):
    listed(networks)
    networks.measure(["small"])
    with pytest.raises(BusyError, match="under way"):
        networks.measure(["large"])


def test_only_looking():
    without = Networks(Jobs(), None)
    assert "workbench app" in without.now()["message"]
    with pytest.raises(FolderError):
        without.measure(["small"])


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
