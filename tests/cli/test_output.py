"""The console can show less than the output holds, or its reader goes away; neither is the command's failure."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.cli.terminal import PIPE_CLOSED

GRAY = np.random.default_rng(0).integers(60, 90, (24, 31, 3), dtype=np.uint8)
"""A camera that moves over it by one pixel per frame."""

ROOT = Path(__file__).resolve().parents[2]


def workbench(*args, encoding="utf-8", **options):
    """Run ``workbench`` in a process of its own, with its output in an encoding."""
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "workbench", *map(str, args)]
    return subprocess.run(command, env=environment, check=False, timeout=300, **options)


@pytest.fixture
def clip(tmp_path):
    """Seven frames in a folder whose name is in no 8-bit code page."""
    folder = tmp_path / "漢字"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(GRAY[:, number : number + 24]).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_characters_that_the_console_cannot_encode_are_replaced(clip, tmp_path, encoding):
    """By print and by progress: the folders' names; in the error: the name of a file that is not there."""
    made = workbench("degrade", clip, tmp_path / "出力", encoding=encoding, capture_output=True)
    assert made.returncode == 0, made.stderr
    assert rb"\u51fa\u529b: bi x4" in made.stdout
    refused = workbench("degrade", tmp_path / "無", tmp_path / "other", encoding=encoding, capture_output=True)
    assert refused.returncode == 2
    assert rb"\u7121: no such file" in refused.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_tables_are_drawn_in_ascii_if_the_console_needs_it(clip, tmp_path, encoding):
    args = ["prepare", clip, "--out", tmp_path / "set", "--downscale", "1", "--validation-share", 0, "--threads", 1]
    made = workbench(*args, encoding=encoding, capture_output=True)
    assert made.returncode == 0, made.stderr
    assert rb"| \u6f22\u5b57" in made.stdout
    for args in (["prepare", "--help"], ["samples"], ["--help"]):
        assert workbench(*args, encoding=encoding, capture_output=True).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="a pipe without a reader is another error there")
@pytest.mark.parametrize("args", [["--help"], ["samples"], ["networks", "--help"]])
def test_a_closed_stdout_pipe_ends_the_command_without_a_message(args):
    """By print, by rich, and by tyro's help: the pipe is closed before the first line is written."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = workbench(*args, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode == PIPE_CLOSED == 128 + 13


def test_other_closed_pipes_are_errors(monkeypatch, capsys):
    from workbench import cli

    def write_to_a_worker(_args):
        raise BrokenPipeError(32, "Broken pipe", "worker")

    monkeypatch.setitem(cli.COMMANDS, "samples", write_to_a_worker)
    assert cli.main(["samples"]) == 2
    assert "Broken pipe: worker" in capsys.readouterr().err
