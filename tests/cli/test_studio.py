"""`workbench app` and `demo`: a server that cannot listen."""

import json
import socket
import subprocess
import sys

import pytest

from tests.videos import encode, numbered
from workbench.cli import main
from workbench.cli.studio_work import command_line
from workbench.errors import BusyError, ConfigError
from workbench.scenes import read_scene
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
