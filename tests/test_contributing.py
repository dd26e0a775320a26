"""The pages for contributors name files, make targets and layers that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "xvectors"


def code(page: str) -> list[str]:
    """The inline code of a page, without its code blocks."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    paths = [name for name in code(page) if re.fullmatch(r"[\w./-]+(/|\.(py|md|toml|txt))", name)]
    assert len(paths) > 15
    made = ("build/", "build/site", "build/coverage")
    missing = {path for path in paths if not ((ROOT / path).exists() or (PACKAGE / path).exists() or path in made)}
    assert not {path for path in missing if "NAME" not in path}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name.removeprefix("make ") for name in code("CONTRIBUTING.md") if re.fullmatch(r"make [a-z-]+", name)}
    assert {"lint", "test", "docs", "build"} <= named <= targets
    scripted = set(re.findall(r"^ *make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"test", "docs", "test-slow"} <= scripted <= targets


def test_the_layers_are_those_that_the_linter_holds() -> None:
    """Each row of the table is a layer of import-linter's contract, in its order."""
    (contract,) = (
        each
        for each in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
            "contracts"
        ]
        if each["type"] == "layers"
    )
    held = [{name.strip().removeprefix("xvectors.") for name in layer.split(":")} for layer in contract["layers"]]
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("| layer |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    described = [{name.rstrip("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", row)} for row in rows]
    assert described == held
