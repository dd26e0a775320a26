"""Every command that writes, killed at its writes: what stood there is intact or the new is whole, the next run works.

By hand, at every write of every command: XVECTORS_KILLS=1000 python -m pytest tests/kills -m slow -s
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from killing import Commands

from xvectors.corpus.synth import synthesize
from xvectors.files import is_leftover

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no SIGKILL and no fork")

KILLS = 2
MANY_KILLS = int(os.environ.get("XVECTORS_KILLS", "3"))
SMALL = ("model.size=0.03", "model.embedding_dim=16", "training.epochs=2", "training.workers=0")
SHORT = ("data.chunk_min_s=0.5", "data.chunk_max_s=0.6", "data.validation_chunk_s=0.6", "training.batch_size=16")


@dataclass(frozen=True)
class Command:
    """`arguments`: {x} stands for the name x below the folder that the command works in.

    outputs: names of files that must be as they were or as an undisturbed run leaves them, after every kill.
    again: the arguments of the next run, if they are others. check: looks at the folder after the kill.
    """

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    check: Callable[[Path], None] = lambda folder: None
    exists_is_refused: str = ""
    """The output that the command does not overwrite."""


def voiceprints(path: Path) -> dict[str, int]:
    """Enrolled speakers and the number of their voiceprints; the file must be sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT name, count(*) FROM speakers JOIN voiceprints ON speaker = speakers.id GROUP BY name"
        return dict(connection.execute(query).fetchall())


def one_of(*allowed: dict[str, int]) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        assert voiceprints(folder / "gallery.sqlite") in allowed

    return check


BEFORE = {"s00": 2, "s01": 2}
GALLERY = ("--gallery", "{gallery.sqlite}", "--system", "{system}")
QUICK = (
    Command("trials", ("trials", "{emb.npz}", "-o", "{trials.csv}"), ("trials.csv",)),
    Command("score", ("score", "{emb.npz}", "--trials", "{trials.csv}", "-o", "{scores.csv}"), ("scores.csv",)),
    Command(
        "fuse",
        ("fuse", "{a.csv}", "{b.csv}", "--fit-on", "{c.csv}", "--fit-on", "{d.csv}", "-o", "{f.csv}"),
        ("f.csv",),
    ),
    Command("embed", ("embed", "{few}", "--system", "{system}", "-o", "{emb.npz}", "--quiet"), ("emb.npz",)),
    Command("embed to a table", ("embed", "{few}", "--system", "{system}", "-o", "{emb.csv}", "--quiet"), ("emb.csv",)),
    Command(
        "embed in parts",
        ("embed", "{few}", "--system", "{system}", "-o", "{parts.parquet}", "--rows-per-part", "4", "--quiet"),
    ),
    Command(
        "enroll",
        ("enroll", "s02", "{few/s02/u0.flac}", "{few/s02/u1.flac}", *GALLERY),
        check=one_of(BEFORE, {**BEFORE, "s02": 2}),
    ),
    Command("forget", ("forget", "s00", "--gallery", "{gallery.sqlite}"), check=one_of(BEFORE, {"s01": 2})),
    Command(
        "gallery export",
        ("gallery", "export", "-o", "{copy.sqlite}", "--gallery", "{gallery.sqlite}"),
        check=one_of(BEFORE),
        exists_is_refused="copy.sqlite",
    ),
    Command(
        "gallery import",
        ("gallery", "import", "{other.sqlite}", *GALLERY),
        check=one_of(BEFORE, {**BEFORE, "s03": 1}),
    ),
    Command("gallery purge", ("gallery", "purge", "--gallery", "{gallery.sqlite}"), check=one_of(BEFORE)),
    Command("re-enroll", ("re-enroll", "--gallery", "{gallery.sqlite}", "--system", "{newer}"), check=one_of(BEFORE)),
)  # fmt: skip
SLOW = (
    Command("calibrate", ("calibrate", "{system}", "--data", "{corpus}", "--quiet")),
    Command("evaluate", ("evaluate", "{system}", "--data", "{corpus}", "-o", "{report}", "--quiet")),
    Command("export", ("export", "{system}", "-o", "{model.onnx}"), ("model.onnx",)),
    Command(
        "synth",
        ("synth", "-o", "{made}", "--num-speakers", "2", "--num-utterances", "2", "--workers", "1", "--quiet"),
    ),
    Command(
        "train",
        ("train", "{corpus}", "-o", "{trained}", "--overwrite", "--recipe", "xvector", "--device", "cpu", "--quiet",
         *(part for setting in (*SMALL, *SHORT) for part in ("--set", setting))),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def commands(root: Path) -> Iterator[Commands]:
    (root / "home").mkdir()
    with Commands(root / "home", root / "work") as server:
        yield server


@pytest.fixture(scope="module")
def template(root: Path, commands: Commands, toy_corpus: Path) -> Path:
    """The folder that commands work in, as it is before each."""
    from xvectors.config import load_recipe
    from xvectors.system import SystemFolder
    from xvectors.system.serialization import make_model, write_description, write_weights

    folder = root / "template"
    recipe = load_recipe("xvector", ["model.size=0.03", "model.embedding_dim=16", "features.num_mels=20"])
    for name in ("system", "newer"):
        model = make_model(recipe, 2)
        write_description(SystemFolder(folder / name), recipe, ["x", "y"])
        write_weights(SystemFolder(folder / name), model.state_dict(), 1)
    synthesize(root / "voices", speakers=4, utterances=2, seed=1, workers=1)
    for number, voice in enumerate(sorted((root / "voices").glob("synth-*"))):
        (folder / "few" / f"s{number:02d}").mkdir(parents=True)
        for place, sound in enumerate(sorted(voice.glob("*.flac"))):
            shutil.copy(sound, folder / "few" / f"s{number:02d}" / f"u{place}.flac")
    shutil.copytree(toy_corpus, folder / "corpus")
    rng = np.random.default_rng(0)
    for name, who in (("a.csv", "u"), ("b.csv", "u"), ("c.csv", "w"), ("d.csv", "w")):
        lines = [f"{who}{i},{who}x{i},{rng.normal(2 * (i % 2)):.6f},{i % 2}" for i in range(40)]
        (folder / name).write_text("enroll,test,score,target\n" + "\n".join(lines) + "\n")

    def succeed(*arguments: str) -> None:
        ended = commands.run(*filled(arguments, folder))
        assert ended.status == 0, ended.output

    succeed("embed", "{few}", "--system", "{system}", "-o", "{emb.npz}", "--quiet")
    succeed("trials", "{emb.npz}", "-o", "{trials.csv}")
    for speaker in ("s00", "s01"):
        sounds = (f"{{few/{speaker}/u0.flac}}", f"{{few/{speaker}/u1.flac}}")
        succeed("enroll", speaker, *sounds, "--keep-audio", *GALLERY)
    succeed("enroll", "s03", "{few/s03/u0.flac}", "--gallery", "{other.sqlite}", "--system", "{system}")
    return folder


def filled(arguments: tuple[str, ...], folder: Path) -> list[str]:
    return [str(folder / part[1:-1]) if part[:1] == "{" else part for part in arguments]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rests(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if is_leftover(path) or path.name.endswith(".lock")]


def kill(command: Command, commands: Commands, template: Path, work: Path, kills: int) -> int:
    """Kill the command at so many of its writes, spread over all of them; returns how many kills it survived."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(template, work)
    whole = commands.run(*filled(command.arguments, work))
    assert whole.status == 0, whole.output
    assert whole.writes > 0, "nothing was counted"
    before, after = contents(template), contents(work)
    survived = 0
    for kill_at in sorted({int(at) for at in np.linspace(1, whole.writes, min(kills, whole.writes))}):
        shutil.rmtree(work)
        shutil.copytree(template, work)
        ended = commands.run(*filled(command.arguments, work), kill_at=kill_at)
        assert ended.status == -9, (command.name, kill_at, ended)
        where = f"{command.name}, killed at write {kill_at} of {whole.writes}"
        command.check(work)
        left = contents(work)
        for name in command.outputs:
            assert left.get(name) in (before.get(name), after[name]), f"{where}: {name} is neither old nor new"
        for name, content in before.items():  # what the command has no business with
            if after.get(name) == content and not name.endswith(("-wal", "-shm")):
                assert left.get(name) == content, f"{where}: {name} was changed or lost"
        is_there = bool(command.exists_is_refused) and (work / command.exists_is_refused).exists()
        again = commands.run(*filled(command.arguments, work))
        assert again.status == (2 if is_there else 0) or "forget" in command.arguments, f"{where}: {again.output}"
        if is_there:
            assert voiceprints(work / command.exists_is_refused) == BEFORE
        command.check(work)
        assert not rests(work), f"{where}: {rests(work)} stay after the next run"
        for name in command.outputs:
            assert (work / name).read_bytes() == after[name], f"{where}: {name} differs after the next run"
        survived += 1
    return survived


@pytest.mark.parametrize("command", [QUICK[0], QUICK[6]], ids=lambda command: command.name)
def test_killed_commands(command: Command, commands: Commands, template: Path, root: Path) -> None:
    assert kill(command, commands, template, root / "work", KILLS) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK + SLOW, ids=lambda command: command.name)
def test_killed_commands_at_many_writes(command: Command, commands: Commands, template: Path, root: Path) -> None:
    survived = kill(command, commands, template, root / "work", MANY_KILLS)
    print(f"{command.name}: {survived} kills survived")  # noqa: T201 - seen with -s
    assert survived >= 1
