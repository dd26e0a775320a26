"""Dockerfile and compose.yaml: what they copy and run exists, without root, and with a read-only file system."""

from __future__ import annotations

import json
import re

import typer
import yaml

from support.documents import ROOT
from xvectors.cli import app

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def arguments(instruction: str) -> list[str]:
    return [str(word) for word in json.loads(re.findall(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])]


def check_command(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # UsageError for an option that does not exist


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed


def test_the_commands_are_those_of_the_program() -> None:
    program, *words = [*arguments("ENTRYPOINT"), *arguments("CMD")]
    assert program == "xvectors"
    check_command(words)
    keys = COMPOSE["services"]["xvectors-keys"]
    program, *words = [*keys["entrypoint"], *keys["command"]]
    assert program == "xvectors"
    check_command(words)


def test_it_runs_without_root_and_with_a_read_only_file_system() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert int(re.findall(r"^USER (\d+)$", last, re.MULTILINE)[-1]) > 0
    assert all(
        ":latest" not in image and ":" in image for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    )
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert COMPOSE["services"]["xvectors"]["ports"] == ["127.0.0.1:8000:8000"]
