"""What the README says to type, typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def commands(section: str) -> list[str]:
    """The lines of the first shell block of a section, without the install."""
    text = README.read_text(encoding="utf-8").split(f"\n## {section}\n")[1]
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return [line for line in block[1].splitlines() if not line.startswith("pip install")]


@pytest.mark.slow
def test_two_recordings_and_a_question(tmp_path: Path) -> None:
    lines = commands("Two recordings and a question")
    assert len(lines) <= 10
    script = "\n".join(["set -e", *(f"echo '>'; {line}" for line in lines)])
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "HOME": str(tmp_path),
    }
    environment.pop("XVECTORS_GALLERY", None)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made, _, compared, ann, bob, who, claimed, listed = done.stdout.split(">\n")[1:]
    assert "2 synthetic voices x 4 utterances" in made
    assert compared.startswith("same speaker\n")
    assert ann.startswith("ann is enrolled, with 2 recordings")
    assert bob.startswith("bob is enrolled, with 2 recordings")
    assert who.startswith("bob: LLR ")
    assert claimed.startswith("same speaker\n")
    assert [line.split()[0] for line in listed.splitlines()] == ["ann", "bob"]
