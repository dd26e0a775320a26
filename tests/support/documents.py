"""Runs the code blocks of a Markdown page: Python in one namespace, commands in this process, in order."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.commands import run

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"(over )?[-+]?\d[\d,.]*")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    why_not: str | None
    """Why the block is not run, from a comment above it."""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(found["language"], found["text"], found["why"]) for found in BLOCK.finditer(text)]


def without_numbers(text: str) -> list[str]:
    return [NUMBER.sub("0", line).rstrip() for line in text.splitlines()]


@dataclass
class PageRun:
    """A page's run. `shorten` adds the settings with which a training takes seconds."""

    monkeypatch: pytest.MonkeyPatch
    shorten: Callable[[Sequence[str]], list[str]]
    namespace: dict[str, Any]
    printed: str = ""
    count: int = 0

    def run(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.why_not is None:
                self.run_block(block)
                self.count += block.language in ("sh", "python")

    def run_block(self, block: Block) -> None:
        if block.language == "python":
            self.write_file(block.text)
            exec(compile(block.text, "<page>", "exec"), self.namespace)
        elif block.language == "toml":
            tomllib.loads(block.text)
            self.write_file(block.text)
        elif block.language == "sh":
            self.printed = ""
            for line in block.text.replace("\\\n", " ").splitlines():
                self.run_line(line)
        elif block.language != "text":  # "text" is the output of another run, such as on a large corpus
            assert block.language == "", f"a block of {block.language}, which cannot be run"
            missing = [line for line in without_numbers(block.text) if line not in without_numbers(self.printed)]
            assert not missing, f"the page shows {missing}, the command printed\n{self.printed}"

    def write_file(self, text: str) -> None:
        if named := re.match(r"# ([\w/.-]+\.(?:py|toml))\n", text):
            path = Path(named[1])
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def run_line(self, line: str) -> None:
        line, _, redirected = line.partition(" > ")
        # Bash removes comments and quotes and expands braces.
        done = subprocess.run(["bash", "-c", f'printf "%s\\0" {line}'], capture_output=True, text=True, check=True)
        words = [word for word in done.stdout.split("\0") if word]
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        match words:
            case []:
                return
            case ["xvectors", *arguments]:
                printed = run(*self.shorten(arguments)).stdout
                self.printed += printed
                if redirected:
                    Path(redirected.split()[0]).write_text(printed, encoding="utf-8")
            case ["cd", folder]:
                self.monkeypatch.chdir(folder)
            case ["export", setting]:
                self.monkeypatch.setenv(*setting.split("=", 1))
            case ["make", target]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            case ["pip", "install", *arguments]:
                for argument in arguments:
                    assert not argument.endswith(".txt") or (ROOT / argument).is_file(), argument
            case ["python", "-m", "pytest", path, *_] | ["pytest", path, *_] if not path.startswith("-"):
                assert (ROOT / path).exists(), path
            case ["pytest", "-m", "real", path]:
                assert (ROOT / path).exists(), path
            case ["tensorboard", "--logdir", folder]:
                assert list(Path(folder).glob("events.out.tfevents.*")), folder
            case ["python", path, *arguments]:
                text = (ROOT / path).read_text(encoding="utf-8")
                text += "".join(each.read_text(encoding="utf-8") for each in (ROOT / path).parent.glob("_*.py"))
                unknown = [word for word in arguments if word.startswith("--") and f'"{word}"' not in text]
                assert not unknown, f"{path} has no {unknown}"
            case _:
                raise AssertionError(f"a command that cannot be run: {words}")
