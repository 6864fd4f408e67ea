"""`workbench app` and `demo`: a server that cannot listen."""

import socket

import pytest

from workbench.cli import main
from workbench.errors import BusyError, ConfigError
from workbench.views.studio import check_port


@pytest.mark.parametrize("command", ["app", "demo"])
def test_a_used_port_is_reported_before_anything_starts(command, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        places = ["--runs", str(tmp_path / "runs"), "--scenes", str(tmp_path / "scenes")]
        assert main([command, "--no-browser", "--port", port, *places]) == 2
    told = capsys.readouterr().err
    assert "--port" in told
    assert port in told
    assert "GRADIO" not in told
    assert not (tmp_path / "runs").exists()


def test_ports_and_hosts():
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
