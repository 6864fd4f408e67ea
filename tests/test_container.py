"""Dockerfile and the page on servers, checked line by line: no builder is needed."""

import functools
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import tyro
import yaml

from workbench.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
PINS = (ROOT / "constraints.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.partition(" ")[::2] for line in lines if line.strip() and not line.startswith("#")]


def values(name):
    return [value for instruction, value in instructions() if instruction == name]


@pytest.fixture
def options(monkeypatch):
    """Return a function that parses a command line of ``workbench app`` without running it."""
    parse, found = tyro.cli, []

    def parse_only(function, **settings):
        @functools.wraps(function)
        def call(options):
            found.append(options)
            return 0

        return parse(call, **settings)

    monkeypatch.setattr(tyro, "cli", parse_only)

    def read(arguments):
        assert main(arguments) == 0
        return found[-1]

    return read


def test_every_copied_file_exists_and_is_sent_to_the_builder():
    sent = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source.rstrip("/") for value in values("COPY") for source in value.split()[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "workbench"}
    assert needed <= copied


def test_the_studio_runs_as_a_user_without_rights(options):
    names = [name for name, _ in instructions()]
    assert values("USER") == ["studio"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]
    (entry,), (default,) = values("ENTRYPOINT"), values("CMD")
    program, *arguments = json.loads(entry)
    assert program in PROJECT["scripts"]
    given = options([*arguments, *json.loads(default)])
    assert given.public
    assert not given.browser


def test_torch_comes_from_the_index_of_the_build_argument():
    assert re.search(r"^torch==", PINS, re.MULTILINE)
    assert values("ARG") == ["TORCH_INDEX=https://download.pytorch.org/whl/cpu"]
    floor = [int(part) for part in PROJECT["requires-python"].removeprefix(">=").split(".")]
    assert [int(part) for part in re.findall(r"python:([0-9.]+)", values("FROM")[0])[0].split(".")] >= floor


def test_the_commands_of_the_page_are_those_of_the_dockerfile(options):
    commands = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("docker ")]
    built = {command[command.index("--tag") + 1] for command in commands if command[1] == "build"}
    arguments = {
        word.partition("=")[0]
        for command in commands
        if "--build-arg" in command
        for word in command
        if "=http" in word
    }
    assert arguments == {value.partition("=")[0] for value in values("ARG")}
    (port,) = values("EXPOSE")
    for command in commands:
        if command[1] == "run":
            image = next(index for index, word in enumerate(command) if word in built)
            assert command[command.index("--publish") + 1] == f"127.0.0.1:{port}:{port}"
            options([*json.loads(values("ENTRYPOINT")[0])[1:], *command[image + 1 :]])


def test_the_metadata_of_the_space_names_what_is_here():
    metadata = yaml.safe_load(re.search(r"```yaml\n---\n(.*?)---\n```", PAGE, re.DOTALL)[1])
    assert (ROOT / metadata["app_file"]).is_file()
    assert f"gradio=={metadata['sdk_version']}\n" in PINS
    assert metadata["license"] == PROJECT["license"].lower()
    assert metadata["short_description"] in PROJECT["description"]
    assert len(metadata["short_description"]) <= 60
