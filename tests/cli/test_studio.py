"""`workbench app` and `demo`: a server that cannot listen."""

import json
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.videos import encode, numbered
from workbench.cli import main
from workbench.cli.studio_work import command_line
from workbench.errors import BusyError, ConfigError
from workbench.scenes import read_scene
from workbench.views import studio
from workbench.views.studio import check_port


@pytest.mark.parametrize("command", ["app", "demo"])
def test_a_used_port_is_reported_before_anything_starts(command, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        places = ["--runs", str(tmp_path / "runs"), "--scenes", str(tmp_path / "scenes")]
        assert main([command, "--no-browser", "--port", port, *places]) == 2
    output = capsys.readouterr().err
    assert "--port" in output
    assert port in output
    assert "GRADIO" not in output
    assert not (tmp_path / "runs").exists()


def test_invalid_ports_and_hosts_are_errors():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"port: {port} on 127.0.0.1"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", None)
    with pytest.raises(ConfigError, match="port: want 1 to 65535, got 65536"):
        check_port("127.0.0.1", 65536)
    with pytest.raises(ConfigError, match=r"host: want .* got '192\.0\.2\.1'"):  # an address for documentation only
        check_port("192.0.2.1", port)


def test_a_job_upscales_the_selected_part_without_importing_gradio(tmp_path):
    request = {
        "file": str(encode(tmp_path / "video.mp4", numbered(6))), "frames": [2, 4], "region": [8, 16, 40, 32],
        "ground_truth": False, "background": [0, 0, 0], "methods": ["bicubic"], "title": "a part", "runs": [],
        "folder": str(tmp_path / "scenes" / "part"),
    }  # fmt: skip
    blocked = f"import sys; sys.modules['gradio'] = None; sys.argv = {command_line('upscale')[2:]!r}"
    code = f"{blocked}; import runpy; runpy.run_module('workbench.cli.studio_work', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(request).encode(), capture_output=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[-1] == {"result": {"scene": "part", "frames": 2}}, done.stderr.decode()
    assert {"status": "reading the video"} in answers
    scene = read_scene(tmp_path / "scenes" / "part")
    assert (scene.width, scene.height, scene.frames) == (128, 160, 2)


@pytest.fixture
def launched(monkeypatch):
    """Return the arguments of the servers that commands would start, without starting one."""
    arguments = []

    class Blocks:
        def block_thread(self):
            """Return at once."""

    def launch(**given):
        arguments.append(given)
        return Blocks(), "http://localhost/"

    for variable in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "SPACE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("workbench.cli.studio._names", dict)  # it imports torch, in a thread
    monkeypatch.setattr(studio, "launch", launch)
    return arguments


def test_the_operator_sets_address_and_port_by_variables(launched, monkeypatch, capsys):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7911")
    assert main(["app", "--auth", "me:word"]) == 0
    assert (launched[-1]["host"], launched[-1]["port"], launched[-1]["public"]) == ("0.0.0.0", 7911, False)
    assert "GRADIO_SERVER_NAME=0.0.0.0" in capsys.readouterr().err
    assert main(["app", "--host", "127.0.0.1", "--port", "7912"]) == 0
    assert (launched[-1]["host"], launched[-1]["port"]) == ("127.0.0.1", 7912)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "http")
    assert main(["app"]) == 2
    assert "GRADIO_SERVER_PORT" in capsys.readouterr().err


def test_a_server_without_variables_is_for_this_computer_only(launched):
    assert main(["app"]) == 0
    assert launched[-1]["host"] == "127.0.0.1"
    assert not launched[-1]["public"]
    assert launched[-1]["frame_ancestors"] == []


def test_the_demo_opens_the_studio_before_it_starts_a_run(launched, monkeypatch, tmp_path, capsys):
    def prepare(folder, config):
        assert launched  # torch, which this function needs, takes seconds to import
        return SimpleNamespace(name=folder.name)

    monkeypatch.setattr("workbench.training.worker.prepare_run", prepare)
    monkeypatch.setattr("workbench.cli.studio.start_worker", lambda run: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["demo", "--no-browser", "--runs", str(tmp_path / "runs")]) == 0
    written = capsys.readouterr().err
    assert "ssh -L 80:127.0.0.1:80 HOST" in written
    places = [written.index(part) for part in ("1 of 2", "open http", "2 of 2", "demo-", "workbench stop demo-")]
    assert places == sorted(places)


def test_visitors_of_a_space_cannot_train_or_stop_runs(launched, monkeypatch, tmp_path):
    monkeypatch.setenv("SPACE_HOST", "me-studio.hf.space")
    assert main(["app", "--runs", str(tmp_path)]) == 0
    given = launched[-1]
    assert given["public"]
    assert "me-studio.hf.space" in given["names"]
    assert given["frame_ancestors"] == ["https://huggingface.co"]
    assert tmp_path in given["runs"][1:]  # all but the first are read-only
    services = given["services"]
    for refused in (services.start, lambda: services.prepare(tmp_path, None), lambda: services.command("estimate")):
        with pytest.raises(ConfigError, match="does not train"):
            refused()
    assert services.command("upscale")
    assert main(["demo"]) == 2
    assert main(["app", "--auth", "me:word"]) == 0
    assert not launched[-1]["public"]
