"""Dockerfile and compose.yaml: what they copy and run exists, without root, and with a read-only file system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
import yaml

from support.dockerfile import copy_context, read_steps, settings_of
from support.documents import ROOT
from support.postgres import NOBODY, PASSWORD, Server, running_server
from support.service import b64, wait_until_ready
from xvectors.cli import app
from xvectors.gallery.postgres.address import parse_address
from xvectors.serve import Settings

STEPS = read_steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
SERVED, DATABASE, KEYS = COMPOSE["xvectors"], COMPOSE["database"], COMPOSE["xvectors-keys"]
Voices = list[list[bytes]]


def words_of(instruction: str) -> list[str]:
    (step,) = [step for step in STEPS if (step.stage, step.instruction) == ("", instruction)]
    return step.words


def of(instruction: str) -> list[str]:
    return [step.rest for step in STEPS if step.instruction == instruction]


def check_command(words: list[str]) -> None:
    program, *words = words
    assert program == "xvectors"
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # UsageError for an option that does not exist


def test_the_steps_make_what_later_steps_use() -> None:
    assert of("FROM") == ["python:3.12-slim AS build", "python:3.12-slim"]
    build = "\n".join(step.rest for step in STEPS if (step.stage, step.instruction) == ("build", "RUN"))
    (copied,) = re.findall(r"^--from=build (\S+) \1$", "\n".join(of("COPY")), re.MULTILINE)
    assert build.startswith(f"python -m venv {copied} && {copied}/bin/pip install")
    assert settings_of(STEPS, "")["PATH"] == f"{copied}/bin:$PATH"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", build)
    assert extras.split(",") == ["serve", "postgres"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    assert "onnxruntime" in build.split()
    (made,) = [step.rest for step in STEPS if (step.stage, step.instruction) == ("", "RUN")]
    assert f"--uid {of('USER')[0]} " in made
    assert "--home-dir /data " in made


def test_what_is_copied_is_there_and_enough_to_build_from(tmp_path: Path) -> None:
    copy_context(STEPS, ROOT, tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))
    for name in (project["project"]["readme"], *project["project"]["license-files"], "constraints.txt"):
        assert (tmp_path / name).is_file()
    package = Path("src", "xvectors")
    expected = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {path for path in expected if "__pycache__" not in path.parts}
    assert {path.relative_to(tmp_path) for path in (tmp_path / package).rglob("*") if path.is_file()} == expected
    assert not (tmp_path / "tests").exists()


def test_the_commands_are_those_of_the_program() -> None:
    check_command([*words_of("ENTRYPOINT"), *words_of("CMD")])
    check_command([*KEYS["entrypoint"], *KEYS["command"]])
    assert KEYS["entrypoint"][-1] == words_of("CMD")[-1] == "/data/keys.json"
    compile(words_of("HEALTHCHECK")[-1], "healthcheck", "exec")
    assert f"localhost:{Settings().port}/readyz" in words_of("HEALTHCHECK")[-1]
    (exposed,) = of("EXPOSE")
    assert SERVED["ports"] == [f"127.0.0.1:{exposed}:{Settings().port}"]
    grace_s = int(SERVED["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings().shutdown_s, "requests in progress end before it is killed"


def test_it_runs_without_root_and_with_a_read_only_file_system() -> None:
    assert int(of("USER")[-1]) > 0
    assert int(DATABASE["user"].partition(":")[0]) > 0
    for service in COMPOSE.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert SERVED["volumes"] == KEYS["volumes"] == ["voices:/data"]


def test_the_gallery_is_in_the_database_beside_it() -> None:
    address = parse_address(SERVED["environment"]["XVECTORS_GALLERY"])
    found = dict(re.findall(r"(\w+)=(\S+)", address.conninfo))
    given = DATABASE["environment"]
    assert (found["host"], found["port"], found["dbname"], found["user"]) == (
        "database", "5432", given["POSTGRES_DB"], given["POSTGRES_USER"]
    )  # fmt: skip
    assert SERVED["environment"]["PGPASSWORD"] == given["POSTGRES_PASSWORD"]
    assert re.fullmatch(r"\$\{DATABASE_PASSWORD:\?.+\}", given["POSTGRES_PASSWORD"]), (
        "compose stops where there is none"
    )
    assert SERVED["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert re.fullmatch(r"pgvector/pgvector:\d+\.\d+\.\d+-pg\d+", DATABASE["image"])
    assert "ports" not in DATABASE, "only the service reaches it"
    assert set(DATABASE["networks"]) <= set(SERVED["networks"])
    assert DATABASE["volumes"] == ["database:/var/lib/postgresql/data"]
    check = DATABASE["healthcheck"]["test"]
    assert check[:2] == ["CMD", "pg_isready"]
    assert {given["POSTGRES_USER"], given["POSTGRES_DB"]} <= set(check)


def can_run_python(user: dict[str, Any]) -> bool:
    """Whether this Python is open to a user; one in the home of root is not."""
    try:
        subprocess.run([sys.executable, "-c", ""], cwd="/", check=True, capture_output=True, **user)
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def image() -> Iterator[tuple[Path, dict[str, Any]]]:
    """The installed package and an empty /data in a folder, and how to run programs there: if possible not as root."""
    folder = Path(tempfile.mkdtemp(prefix="xvectors-image-"))
    try:
        folder.chmod(0o755)
        (folder / "context").mkdir()
        (folder / "data").mkdir()
        copy_context(STEPS, ROOT, folder / "context")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        subprocess.run(
            [*pip, "--no-compile", "--target", folder / "site", folder / "context"], check=True, capture_output=True
        )
        settings = settings_of(STEPS, "") | {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder / "site")}
        running: dict[str, Any] = {"cwd": folder / "data", "env": settings | {"HOME": str(folder / "data")}}
        nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        if os.geteuid() == 0 and can_run_python(nobody):
            os.chown(folder / "data", NOBODY, NOBODY)
            running |= nobody
        yield folder, running
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_steps_of_compose_run_one_after_the_other_without_docker(voices: Voices) -> None:
    """Install from the context, make a key, start database and service, ask it as the health check does, stop it."""

    def here(words: list[str], folder: Path) -> list[str]:
        program, *rest = words
        assert program == "xvectors"
        return [sys.executable, "-m", program, *(word.replace("/data/", f"{folder}/data/") for word in rest)]

    with running_server("-c", "fsync=off") as server, image() as (folder, running):
        before = {path for path in folder.rglob("*") if "data" not in path.relative_to(folder).parts[:1]}
        made = subprocess.run(
            here([*KEYS["entrypoint"], *KEYS["command"]], folder),
            capture_output=True, text=True, check=True, **running,
        )  # fmt: skip
        (key,) = re.findall(r"xv_[\w-]+", made.stdout)
        process, address, log = serve(
            here([*words_of("ENTRYPOINT"), *words_of("CMD")], folder), server, folder, running
        )
        try:
            audio = b64(voices[0][0])
            asked = {"name": "ann", "audio": audio}
            refused = httpx2.post(f"{address}/v1/voice/register", json=asked, timeout=60)
            assert refused.status_code == 401
            with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
                assert client.post("/v1/voice/register", json=asked).status_code == 200
                assert client.get("/v1/speakers/ann").json()["num_voiceprints"] == 1
            python, *check = words_of("HEALTHCHECK")
            assert python == "python"
            check = [word.replace("http://localhost:8000", address) for word in check]
            assert subprocess.run([sys.executable, *check], check=False, **running).returncode == 0
            process.send_signal(getattr(signal, of("STOPSIGNAL")[0]))
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in log.read_text()
        after = {path for path in folder.rglob("*") if "data" not in path.relative_to(folder).parts[:1]}
        assert after == before, "nothing is written outside /data"
        assert (folder / "data" / "keys.json").stat().st_mode & 0o077 == 0


def serve(
    command: list[str], server: Server, folder: Path, running: dict[str, Any]
) -> tuple[subprocess.Popen[bytes], str, Path]:
    """Start the service with the database of the tests, on a free port of this machine alone."""
    gallery = server.url_of("postgres", None)
    environment = running["env"] | {"XVECTORS_GALLERY": gallery, "PGPASSWORD": PASSWORD}
    log = folder / "data" / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0", "--decoders", "1"],
            stderr=errors, **running | {"env": environment},
        )  # fmt: skip
    return process, wait_until_ready(process, log), log
