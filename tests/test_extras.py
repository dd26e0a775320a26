"""What messages and docs tell users to install is something that can be installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TEXTS = [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def named(text: str) -> set[str]:
    """Extras as users are told of them: `xvectors[a,b]`, `.[a]`, extra `a`."""
    lists = re.findall(r"(?:xvectors|\.)\[([a-z0-9_,\- ]+)\]'", text)
    return {name.strip() for each in lists for name in each.split(",")} | set(
        re.findall(r"extras? `([a-z0-9]+)`", text)
    )


def test_every_extra_that_is_named_exists() -> None:
    found = {path: named(path.read_text(encoding="utf-8")) for path in TEXTS}
    assert {"synth", "onnx", "media", "hub", "vad"} <= set().union(*found.values())
    wrong = {f"{path.relative_to(ROOT)}: {name}" for path, names in found.items() for name in names - EXTRAS.keys()}
    assert not wrong


@pytest.mark.parametrize("path", [path for path in SOURCES if "MissingExtraError(" in path.read_text(encoding="utf-8")])
def test_every_missing_extra_is_told_with_the_command_that_installs_it(path: Path) -> None:
    """An extra, in quotes since square brackets mean something to zsh; or torch or onnxruntime, which need none."""
    if path.name == "errors.py":
        return
    text = path.read_text(encoding="utf-8")
    assert re.search(r"pip install ('xvectors\[[a-z0-9]+\]'|torch|onnxruntime)", text), path
    assert not re.search(r"pip install xvectors\[", text), "without quotes"
