"""Read a Dockerfile, and do what its steps do to files, without docker."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

INSTRUCTIONS = frozenset(
    {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"}
    | {"ENTRYPOINT", "CMD"}
)
"""Those in use here."""


@dataclass(frozen=True)
class Step:
    """One instruction of a stage, with its rest as text."""

    stage: str
    instruction: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The words of the instruction's JSON list."""
        return [str(word) for word in json.loads(self.rest[self.rest.index("[") :])]


def read_steps(text: str) -> list[Step]:
    """Return the steps in their order; raise AssertionError for an instruction that is not known here."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    steps, stage = [], ""
    for line in filter(None, joined.splitlines()):
        instruction, _, rest = line.partition(" ")
        assert instruction in INSTRUCTIONS, line
        if instruction == "FROM":
            image, _, stage = rest.partition(" AS ")
            assert re.fullmatch(r"[a-z0-9./-]+:(?!latest)[\w.-]+", image), f"{image} has no fixed version"
        steps.append(Step(stage, instruction, rest))
    return steps


def settings_of(steps: list[Step], stage: str) -> dict[str, str]:
    """Return what ENV sets in a stage."""
    lines = [step.rest for step in steps if (step.stage, step.instruction) == (stage, "ENV")]
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(lines)))


def copy_context(steps: list[Step], root: Path, out: Path) -> None:
    """Copy to `out` what the steps copy from the context `root`, as far as .dockerignore lets them."""
    ignored = (root / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*", "everything is ignored, but for what is named"
    kept = {name[1:] for name in ignored if name.startswith("!")}
    for step in steps:
        if step.instruction != "COPY" or step.rest.startswith("--from="):
            continue
        *names, target = step.rest.split()
        for name in names:
            assert name in kept, f"{name} is ignored by .dockerignore"
            place = out / target if len(names) == 1 else out / target / name
            if (root / name).is_dir():
                shutil.copytree(root / name, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(root / name, place)
