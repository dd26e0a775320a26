"""Embeddings of any network: reading them with their labels, calibrating and evaluating them, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from support.commands import run
from test_without_torch import COMMANDS, python
from xvectors.errors import CheckpointError, ConfigError, ManifestError
from xvectors.evaluation.embeddings import measure_embeddings
from xvectors.labeled_embeddings import calibrate_embeddings, read_labeled

DIM, EACH = 16, 8


def voices(num_speakers: int, *, shift: float = 2.0, noise: float = 1.3) -> tuple[list[str], NDArray[np.float32]]:
    """Ids and vectors of speakers around N(0, 1), all moved by `shift`, which cosine suffers from."""
    rng = np.random.default_rng(5)
    means = np.repeat(rng.standard_normal((num_speakers, DIM)), EACH, axis=0)
    vectors = means + noise * rng.standard_normal(means.shape) + shift
    return [f"u{row:04d}" for row in range(len(means))], vectors.astype(np.float32)


def table(path: Path, ids: list[str], header: str = "id,speaker,gender") -> Path:
    rows = (f"{name},s{row // EACH:03d},{'mf'[row // EACH % 2]}" for row, name in enumerate(ids))
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def write(num_speakers: int, **settings: Any) -> tuple[Path, Path]:
        ids, vectors = voices(num_speakers, **settings)
        np.savez(tmp_path / "vectors.npz", names=np.array(ids), embeddings=vectors)
        return tmp_path / "vectors.npz", table(tmp_path / "labels.csv", ids)

    return write


def test_formats_of_other_programs_are_read_alike(tmp_path: Path) -> None:
    ids, vectors = voices(4)
    labels = table(tmp_path / "labels.csv", ids)
    np.savez(tmp_path / "a.npz", utt=np.array(ids), xvectors=vectors.astype(np.float64))
    columns = {"utterance_id": ids, "embedding": [row.tolist() for row in vectors]}
    parquet.write_table(pa.table(columns), tmp_path / "b.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    parquet.write_table(pa.table({"id": ids, "vector": fixed}), tmp_path / "c.parquet")
    for name in ("a.npz", "b.parquet", "c.parquet"):
        data = read_labeled(tmp_path / name, labels)
        np.testing.assert_array_equal(data.embeddings, vectors)
        assert list(data.manifest.id) == ids
        assert data.manifest.speakers == ("s000", "s001", "s002", "s003")
        assert data.manifest.gender.tolist() == np.repeat([0, 1, 0, 1], EACH).tolist()
        assert not data.durations_known


def test_labels_by_path_with_durations(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", id=np.array(["ann/1", "bob/1"]), embeddings=np.eye(2, dtype=np.float32))
    (tmp_path / "l.csv").write_text("path,speaker,session,duration_s\nbob/1.wav,bob,b1,2.5\nann/1.wav,ann,a1,4\n")
    data = read_labeled(tmp_path / "v.npz", tmp_path / "l.csv")
    assert [data.manifest.row(row).speaker for row in range(2)] == ["ann", "bob"]
    assert [data.manifest.row(row).session for row in range(2)] == ["a1", "b1"]
    assert data.seconds.tolist() == [4.0, 2.5]


def test_unusable_rows_are_left_out_with_their_names(
    files: Callable[..., tuple[Path, Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors, labels = files(10)
    ids, rows = voices(10)
    rows[3, 2], rows[9] = np.nan, 0
    np.savez(vectors, names=np.array(ids), embeddings=rows)
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([*lines[:11], *lines[12:], "other,s001,f"]) + "\n")
    data = read_labeled(vectors, labels)
    assert list(data.manifest.id) == [name for name in ids if name not in ("u0003", "u0009", "u0010")]
    messages = [record.message for record in caplog.records]
    assert messages[0] == f"{vectors}: 1 of 80 embeddings hold NaN or infinity (u0003); left out"
    assert messages[1] == f"{vectors}: 1 of 80 embeddings are zero in all dimensions (u0009); left out"
    assert messages[2] == f"{vectors}: 1 embedding has no label in {labels} (u0010); left out"
    assert messages[3] == f"{labels}: 1 row has no embedding"


def test_bad_input_is_a_sentence(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    vectors, labels = files(4)
    ids, rows = voices(4)

    def refused(error: type[Exception], match: str, **arrays: Any) -> None:
        np.savez(tmp_path / "bad.npz", **{"names": np.array(ids), "embeddings": rows, **arrays})
        with pytest.raises(error, match=match):
            read_labeled(tmp_path / "bad.npz", labels)

    refused(CheckpointError, "32 of 32 embeddings hold NaN .* embed again", embeddings=np.full_like(rows, np.nan))
    refused(CheckpointError, "two embeddings are named 'u0000'", names=np.array(["u0000", *ids[:-1]]))
    refused(CheckpointError, r"shape \[512\], not \[n, dim\]", embeddings=rows.ravel())
    refused(CheckpointError, "not numbers", embeddings=rows.astype(np.str_))
    refused(CheckpointError, r"id has the shape \[31\]", names=np.array(ids[:-1]))
    refused(
        ManifestError,
        "names none of the 32 embeddings; bad.npz calls them xu0000",
        names=np.array([f"x{i}" for i in ids]),
    )
    with pytest.raises(CheckpointError, match="names no speakers; give a table of them with --labels"):
        read_labeled(vectors)
    (tmp_path / "no-names.csv").write_text("speaker,gender\ns1,m\n")
    with pytest.raises(ManifestError, match="no column names the recordings; call one id"):
        read_labeled(vectors, tmp_path / "no-names.csv")
    ragged = {"id": ids, "embedding": [row[: DIM - (at == 5)].tolist() for at, row in enumerate(rows)]}
    parquet.write_table(pa.table(ragged), tmp_path / "ragged.parquet")
    with pytest.raises(CheckpointError, match="differ in their number of dimensions: 1 of 15, 31 of 16"):
        read_labeled(tmp_path / "ragged.parquet", labels)
    with pytest.raises(ManifestError, match="back-end plda is fitted on half of the speakers"):
        calibrate_embeddings(vectors, labels, tmp_path / "b", backend="plda")
    (tmp_path / "system.toml").write_text("")
    with pytest.raises(CheckpointError, match="holds a system, whose calibration belongs to its network"):
        calibrate_embeddings(vectors, labels, tmp_path)
    with pytest.raises(ConfigError, match="back-end 'plad' is not known"):
        calibrate_embeddings(vectors, labels, tmp_path / "b", backend="plad")


@pytest.mark.slow
def test_a_back_end_is_chosen_and_measured_on_speakers_kept_apart(
    files: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    vectors, labels = files(60)
    verifier = calibrate_embeddings(vectors, labels, tmp_path / "b")
    basis = verifier.basis
    roles = [set(basis[key]) for key in ("speakers", "fitted_speakers", "test_speakers")]
    assert [len(role) for role in roles] == [24, 24, 12]
    assert len(set.union(*roles)) == 60
    assert verifier.name != "cosine"  # which the shift spoils
    assert 0 < basis["trust"]["llr_standard_error"] < 1
    out, own = verifier.figures["speakers_left_out"], verifier.figures["all"]
    assert abs(out["cllr"] - own["cllr"]) < 0.1

    result = measure_embeddings(vectors, labels, system=tmp_path / "b")
    assert set(result.manifest.speakers) == roles[2]
    assert result.is_calibrated
    assert "measured on the 12 speakers kept apart for testing" in result.warnings[0]
    # no measure of these twelve went into the calibration, which holds for them all the same
    assert result.measures["cllr"].value - result.measures["min_cllr"].value < 0.1
    cosine = measure_embeddings(vectors, labels)
    assert len(cosine.manifest.speakers) == 60
    assert result.eer < cosine.eer
    # measured on its own speakers, it says so
    few = np.flatnonzero(np.isin(np.repeat([f"s{n:03d}" for n in range(60)], EACH), sorted(roles[0])))
    ids, rows = voices(60)
    np.savez(tmp_path / "own.npz", names=np.array(ids)[few], embeddings=rows[few])
    own_speakers = measure_embeddings(tmp_path / "own.npz", labels, system=tmp_path / "b")
    assert any("24 of the 24 test speakers bear names that the calibration" in line for line in own_speakers.warnings)


def test_few_speakers_calibrate_cosine_and_are_told_how_far_to_trust_it(
    files: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    vectors, labels = files(8, shift=0.0)
    printed = run("calibrate", "--embeddings", vectors, "--labels", labels, "-o", tmp_path / "b").stdout
    assert printed.startswith("back-end     cosine: 8 speakers with two recordings; to choose takes 10\n")
    assert "LLRs near the threshold have a standard error of " in printed
    assert "calibrated on 8 speakers with 8.0 recordings each; near the threshold, rely on decisions from" in printed


def test_without_torch_and_without_durations(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    files(12)
    names = ("--embeddings", "vectors.npz", "--labels", "labels.csv")
    ids, _ = voices(12)
    (tmp_path / "trials.txt").write_text(f"1 {ids[0]} {ids[1]}\n0 {ids[0]} {ids[-1]}\n")
    commands = [
        ["calibrate", *names, "-o", "b", "--json"],
        ["evaluate", "b", *names, "-o", "report", "--json"],
        ["score", "vectors.npz", "--trials", "trials.txt", "--system", "b", "-o", "scores.csv"],
    ]
    results = [json.loads(line) for line in python(COMMANDS, tmp_path, json.dumps(commands)).splitlines()]
    assert [status for status, _, _ in results] == [0, 0, 0], results
    assert json.loads(results[1][1])["scale"] == "llr"
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    assert "with LLRs" in results[2][1]
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == "enroll,test,target,score,llr"


def test_options_that_contradict_each_other(files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    vectors, labels = files(4)
    given = ("--embeddings", vectors, "--labels", labels)
    assert "--output is missing" in run("calibrate", *given, status=2).stderr
    assert "--data cannot be used" in run("calibrate", *given, "-o", "b", "--data", tmp_path, status=2).stderr
    assert "--data with --embeddings" in run("evaluate", *given, "--data", tmp_path, status=2).stderr
    assert "--labels is for --embeddings" in run("evaluate", "b", "--labels", labels, status=2).stderr
