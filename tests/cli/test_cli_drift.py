"""The command drift: galleries and embeddings over time, and what cannot be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.commands import run
from support.conditions import usual_within_one
from xvectors.gallery import SqliteStore, Voiceprint
from xvectors.system import SystemFolder
from xvectors.verification import fingerprint_of, save_verifier, verifier_of
from xvectors.verification.drift import USUAL_SHARE

USUAL, TELEPHONE = [0.0] * 6, [-2.0, *[0.0] * 5]
ADVICE = (
    "calibrate again: since 2026-05, 75 % of the recordings are unlike the calibration set (little sound above 4 kHz, "
    "as on a telephone); `xvectors calibrate DIR --data RECORDINGS` with recordings of this kind of 20 speakers or more"
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter, with a calibration for conditions whose usual range is -1 to 1."""
    path = tmp_path_factory.mktemp("drift") / "system"
    shutil.copytree(Path(str(resources.files("xvectors.system") / "starter")), path)
    basis = dict(verifier_of(SystemFolder(path)).basis)
    del basis[USUAL_SHARE]  # as in calibrations of before
    set_verifier(path, condition=usual_within_one(), basis=basis)
    return path


def set_verifier(path: Path, **changes: Any) -> None:
    folder = SystemFolder(path)
    verifier = replace(verifier_of(folder), **changes)
    save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=fingerprint_of(folder))


def voiceprint(date: datetime, row: Sequence[float] | None, system: str, expires: datetime | None = None) -> Voiceprint:
    return Voiceprint(
        embedding=np.ones(4, dtype=np.float32),
        duration_s=4.0,
        system=system,
        enrolled_at=date,
        expires_at=expires,
        condition=None if row is None else np.array(row, dtype=np.float32),
    )


@pytest.fixture
def gallery(tmp_path: Path, system: Path) -> Path:
    """Twenty recordings a month from March to June 2026; from May on, three in four by telephone."""
    own = fingerprint_of(SystemFolder(system))
    rows = [
        voiceprint(datetime(2026, month, day + 1, tzinfo=UTC), TELEPHONE if month >= 5 and day % 4 else USUAL, own)
        for month in range(3, 7)
        for day in range(20)
    ]
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    with SqliteStore(tmp_path / "gallery.sqlite", create=True) as store:
        store.add("alice", rows)
        store.add("bob", [voiceprint(rows[-1].enrolled_at, None, own), voiceprint(long_ago, TELEPHONE, "b" * 64)])
        store.add("carol", [voiceprint(long_ago, TELEPHONE, own, expires=datetime(2021, 1, 1, tzinfo=UTC))])
    return tmp_path / "gallery.sqlite"


def write_npz(path: Path, **columns: Any) -> Path:
    """Forty embeddings of April and May; in May, three in four by telephone."""
    condition = np.array(20 * [USUAL] + 5 * [USUAL] + 15 * [TELEPHONE], dtype=np.float32)
    arrays = {
        "embeddings": np.ones((40, 3), dtype=np.float32),
        "id": np.array([f"r{number}" for number in range(40)]),
        "speech_s": np.arange(40.0),
        "condition": condition,
        **columns,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


DATES = [f"2026-{month}-{day + 1:02d}" for month in ("04", "05") for day in range(20)]


def test_a_gallery_whose_later_months_come_by_telephone(gallery: Path, system: Path) -> None:
    printed = run("drift", gallery, "--system", system).stdout.splitlines()
    assert printed == [
        "period   recordings  unlike  untested  speech  most frequent",
        "2026-03          20   0 %         0 %   4.0 s",
        "2026-04          20   0 %         0 %   4.0 s",
        "2026-05          20  75 %*+       0 %   4.0 s  little sound above 4 kHz, as on a telephone (15)",
        "2026-06          21  75 %*+       0 %   4.0 s  little sound above 4 kHz, as on a telephone (15)",
        "usual: 20 % (assumed, as the calibration does not record its own share); * is more than that, and than chance",
        "+ is more than in 2026-03, and than chance",
        "1 recording without a known condition, which no share counts",
        "left out: 1 voiceprint of other systems",
        ADVICE,
    ]


def test_json(gallery: Path, system: Path) -> None:
    found = json.loads(run("drift", gallery, "--system", system, "--json").stdout)
    assert (found["calibrate_again"], found["since"], found["share_shifted_since"]) == (True, "2026-05", 0.75)
    assert (found["usual_share"], found["recorded_share"], found["num_left_out"]) == (0.2, None, 1)
    assert found["advice"] == ADVICE
    assert [period["share_shifted"] for period in found["periods"]] == [0, 0, 0.75, 0.75]
    assert [period["num_unknown"] for period in found["periods"]] == [0, 0, 0, 1]
    weeks = json.loads(run("drift", gallery, "--system", system, "--json", "--by", "week").stdout)
    assert weeks["periods"][0]["name"] == "2026-W09"
    assert weeks["since"] == "2026-W18"


def test_nothing_to_do(tmp_path: Path, system: Path, gallery: Path) -> None:
    other = shutil.copytree(system, tmp_path / "other")
    set_verifier(other, basis={**verifier_of(SystemFolder(other)).basis, USUAL_SHARE: 0.7})
    printed = run("drift", gallery, "--system", other).stdout.splitlines()
    assert "usual: 70 % (of the calibration set, 70 % are unlike its other speakers' recordings)" in printed
    assert printed[-1] == "nothing to do: no more recordings than usual are unlike the calibration set"


@pytest.mark.parametrize("kind", ["npz", "npz of dates", "parquet", "parquet of dates", "table", "folder", "paths"])
def test_embeddings_with_dates(tmp_path: Path, system: Path, kind: str) -> None:
    arguments: list[object] = []
    source = write_npz(tmp_path / "e.npz", date=np.array(DATES) if kind == "npz" else None)
    if kind == "npz of dates":
        source, arguments = write_npz(tmp_path / "e.npz", on=np.array(DATES, "datetime64[ns]")), ["--date-column", "on"]
    elif kind.startswith("parquet"):
        arrays = dict(np.load(source))
        days: list[Any] = DATES if kind == "parquet" else [datetime.fromisoformat(date) for date in DATES]
        lists = {
            key: pa.FixedSizeListArray.from_arrays(arrays[key].ravel(), arrays[key].shape[1])
            for key in ("embeddings", "condition")
        }
        source = tmp_path / "e.parquet"
        parquet.write_table(pa.table({**arrays, **lists, "date": days}), source)
    elif kind != "npz":
        rows = [("id", "date"), *((f"r{number}", date) for number, date in enumerate(DATES))]
        if kind != "table":
            rows = [("path", "date", "speaker"), *((f"r{at}.wav", date, "ann") for at, date in enumerate(DATES))]
        table = tmp_path / "metadata.csv"
        table.write_text("".join(f"{','.join(row)}\n" for row in [rows[0], *reversed(rows[1:])]), encoding="utf-8")
        arguments = ["--data", tmp_path if kind == "folder" else table]
    printed = run("drift", source, "--system", system, *arguments).stdout.splitlines()
    assert printed[1:3] == [
        "2026-04          20   0 %         0 %   9.5 s",
        "2026-05          20  75 %*+       0 %  29.5 s  little sound above 4 kHz, as on a telephone (15)",
    ]
    assert printed[-1] == ADVICE


def test_embeddings_without_dates_are_one_period(tmp_path: Path, system: Path) -> None:
    printed = run("drift", write_npz(tmp_path / "e.npz"), "--system", system).stdout.splitlines()
    assert printed[1].split()[:4] == ["all", "40", "38", "%*"]
    assert "the recordings have no dates, so all are one period; --date-column or --data gives dates" in printed
    assert printed[-1].startswith("calibrate again: 38 % of the recordings are unlike")


def test_embeddings_that_cannot_be_compared(tmp_path: Path, system: Path) -> None:
    def error(*arguments: object) -> str:
        printed = run("drift", *arguments, "--system", system, status=2)
        assert printed.stdout == ""
        assert printed.stderr.count("\n") == 1
        return printed.stderr

    path = tmp_path / "e.npz"
    assert "no column condition; embed again" in error(write_npz(path, condition=None))
    unknown = np.full((40, 6), np.nan, dtype=np.float32)
    assert "no condition in it is known; embed again" in error(write_npz(path, condition=unknown))
    bad = np.array([*DATES[:6], "May 7th", *DATES[7:]])
    assert "date of row 7 is 'May 7th', not a date; write it as 2026-05-31" in error(write_npz(path, date=bad))
    early = np.where(bad == "May 7th", "0001-01-01T00:00:00+05:00", bad)
    assert "date of row 7 is '0001-01-01T" in error(write_npz(path, date=early))
    assert "date of row 7 is ''" in error(write_npz(path, date=np.where(bad == "May 7th", "", bad)))
    assert "no column 'day' of dates; name another with --date-column" in error(path, "--date-column", "day")
    assert "embed again" in error(write_table(tmp_path / "e.csv", ["id,e0,e1", "a,1,2"]))
    table = write_table(tmp_path / "t.csv", ["id,date", *(f"r{at},{date}" for at, date in enumerate(DATES[:39]))])
    assert "no date for 1 embedding of e.npz (r39)" in error(path, "--data", table)
    table = write_table(table, ["id,date", *(f"r{at},{'' if at == 3 else '2026-05-01'}" for at in range(40))])
    assert "t.csv: date of line 5 is '', not a date" in error(path, "--data", table)
    assert "(columns found: id, date); name it with --date-column" in error(
        path, "--data", table, "--date-column", "day"
    )
    table = write_table(table, ["name,date", "r0,2026-05-01"])
    assert "call one id, with the ids of e.npz" in error(path, "--data", table)
    (tmp_path / "empty").mkdir()
    assert "holds no metadata.csv" in error(path, "--data", tmp_path / "empty")
    assert "did you mean 'week'" in error(write_npz(path), "--by", "weeks")


def write_table(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def test_galleries_and_systems_that_cannot_be_compared(tmp_path: Path, system: Path, gallery: Path) -> None:
    def error(*arguments: object) -> str:
        printed = run("drift", *arguments, status=2)
        assert printed.stderr.count("\n") == 1
        return printed.stderr

    own = fingerprint_of(SystemFolder(system))
    plain = shutil.copytree(system, tmp_path / "plain")
    set_verifier(plain, condition=None)
    assert "`xvectors calibrate DIR --data RECORDINGS` with recordings of ten speakers" in error(
        gallery, "--system", plain
    )
    assert "for embeddings: a gallery knows" in error(gallery, "--system", system, "--date-column", "date")
    assert "missing.sqlite" in error(tmp_path / "missing.sqlite", "--system", system)
    other, empty, old = (tmp_path / f"{name}.sqlite" for name in ("other", "empty", "old"))
    day = datetime(2026, 5, 1, tzinfo=UTC)
    for path, row in ((other, voiceprint(day, USUAL, "b" * 64)), (empty, None), (old, voiceprint(day, None, own))):
        with SqliteStore(path, create=True) as store:
            if row is not None:
                store.add("alice", [row])
    assert "all 1 voiceprint are of another system" in error(other, "--system", system)
    assert "xvectors re-enroll" in error(other, "--system", system)
    assert "nobody is enrolled; `xvectors enroll" in error(empty, "--system", system)
    assert "no voiceprint has a condition" in error(old, "--system", system)
