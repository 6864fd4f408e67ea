"""The help of every command has an example, and the example can be parsed."""

import functools
import re
import shlex

import pytest
import tyro

from workbench.cli import COMMANDS, main

VARIANTS = [*((name,) for name in COMMANDS), ("prepare", "--stills", "photos")]


@pytest.mark.parametrize("command", VARIANTS, ids=" ".join)
def test_the_help_has_an_example_that_can_be_parsed(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    examples = re.findall(r"Example: `workbench ([^`]+)`", shown)
    assert len(examples) == 1, shown
    arguments = shlex.split(examples[0])
    assert tuple(arguments[: len(command)]) == command

    parse, parsed = tyro.cli, []

    def parse_only(function, **options):
        @functools.wraps(function)
        def call(*args, **kwargs):
            parsed.append((args, kwargs))
            return 0

        return parse(call, **options)

    monkeypatch.setattr(tyro, "cli", parse_only)
    assert main(arguments) == 0
    assert len(parsed) == 1
