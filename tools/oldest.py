"""Prints a constraints file with the oldest version that pyproject.toml allows of each package it names."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path


def oldest(pyproject: dict) -> list[str]:
    """`name==version` for every requirement `name>=version` of the package and its extras, the highest per name."""
    project = pyproject["project"]
    requirements = chain(project["dependencies"], *project["optional-dependencies"].values())
    bounds = [re.match(r"([\w.-]+)(?:\[.*?\])?>=([\d.]+)", requirement) for requirement in requirements]
    ordered = sorted((bound[1], [int(part) for part in bound[2].split(".")]) for bound in bounds if bound)
    return [f"{name}=={'.'.join(map(str, version))}" for name, version in dict(ordered).items()]


if __name__ == "__main__":
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(oldest(tomllib.loads(text))))
