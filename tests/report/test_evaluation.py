"""What `evaluate` records beside the figures: what was left out, who is in the cohort, the command."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from xvectors import SpeakerEncoder
from xvectors.backends import make_backend
from xvectors.backends.as_norm import ScoreNorm
from xvectors.corpus import TEST, TRAIN, Manifest
from xvectors.corpus.scanning import Reason, Remark, read_left_out
from xvectors.errors import ManifestError
from xvectors.evaluation.scoring import score_trial_list
from xvectors.files.tables import write_table
from xvectors.report import evaluate
from xvectors.report.outputs import summary_lines
from xvectors.system import SystemFolder
from xvectors.verification import fingerprint_of, save_verifier, verifier_of

HEADER = ["path", "speaker", "outcome", "reason", "detail"]
LEFT_OUT = [
    ("s01/cut.flac", "s01", "left out", "truncated", "half of it is there"),
    ("s01/loud.flac", "s01", "kept", "clipped", "2.0% of the samples at full scale"),
    ("s05/empty.flac", "s05", "left out", "empty", ""),
    ("zed/only.flac", "zed", "left out", "silent", ""),
]


@pytest.fixture
def system(toy_corpus: Path, tmp_path: Path) -> SystemFolder:
    """The starter as if it had been trained on speakers 3 to 9 of the tones, and 0 to 2 kept for testing."""
    folder = SystemFolder(tmp_path / "system")
    shutil.copytree(Path(str(resources.files("xvectors.system") / "starter")), folder.path)
    corpus = Manifest.read_csv(toy_corpus / "metadata.csv")
    corpus = corpus.with_columns(split=np.where(corpus.speaker_index < 3, TEST, TRAIN))
    corpus.write_csv(folder.corpus)
    write_table(folder.left_out, HEADER, LEFT_OUT)
    return folder


def with_cohort(folder: SystemFolder) -> ScoreNorm:
    """Give the system AS-norm with a cohort of speakers it was trained on, and return it."""
    names = SpeakerEncoder.from_pretrained(folder.path, device="cpu").speakers[:20]
    rows = np.random.default_rng(0).standard_normal((2 * len(names), 128)).astype(np.float32)
    backend = make_backend("asnorm").fit(rows, np.repeat(names, 2))
    verifier = replace(verifier_of(folder), backend=backend, name="asnorm")
    save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=fingerprint_of(folder))
    assert backend.normalizer is not None
    return backend.normalizer


def reported(folder: Path) -> tuple[dict[str, object], str]:
    return json.loads((folder / "metrics.json").read_text()), (folder / "index.html").read_text()


def test_what_training_left_out_of_the_test_speakers_is_listed(system: SystemFolder) -> None:
    result = evaluate(system.path, audio=False, device="cpu")
    expected = [
        "s01/cut.flac: truncated (half of it is there)",
        "zed/only.flac: silent; no recording of zed could be used, for training or test",
    ]
    metrics, page = reported(system.report)
    assert list(result.left_out) == metrics["left_out"] == expected
    assert "Left out: 2 recordings" in page
    assert all(line in page for line in expected)
    assert "Nothing was left out" not in page
    assert summary_lines(result)[-1] == "2 recordings left out"
    assert shlex.split(page.split("<dt>command</dt><dd><code>")[1].split("</code>")[0]) == [
        *("xvectors", "evaluate", str(system.path), "--device", "cpu", "--no-audio")
    ]


def test_a_lost_list_of_what_was_left_out_is_not_taken_for_an_empty_one(system: SystemFolder) -> None:
    system.left_out.unlink()
    evaluate(system.path, audio=False, device="cpu")
    metrics, page = reported(system.report)
    assert any(line.startswith(f"{system.left_out} is missing") for line in metrics["warnings"])
    assert "Which recordings training left out is not known." in page
    assert "Nothing was left out" not in page


def test_what_the_scan_of_another_corpus_rejects_is_listed_and_test_speakers_in_the_cohort(
    system: SystemFolder, toy_corpus: Path, tmp_path: Path
) -> None:
    in_cohort = with_cohort(system).cohort_speakers_.tolist()[:2]
    rows = [
        (toy_corpus / source / f"u{u}.flac", name)
        for name, source in ((in_cohort[0], "s00"), (in_cohort[1], "s03"), ("stranger", "s06"))
        for u in (4, 5, 6)
    ]
    empty, copy = tmp_path / "empty.flac", tmp_path / "z-copy.flac"
    empty.write_bytes(b"")
    shutil.copy(rows[-1][0], copy)
    data = tmp_path / "data.csv"
    write_table(data, ["path", "speaker"], [*rows, (empty, "stranger"), (copy, "stranger")])
    out = tmp_path / "report"
    printed = run("evaluate", system.path, "--data", data, "-o", out, "--no-audio", "--device", "cpu", "-q")
    metrics, page = reported(out)
    assert "<audio" not in page
    assert len(metrics["left_out"]) == 2
    assert metrics["left_out"][0].startswith(f"{empty}: empty")
    assert metrics["left_out"][1] == f"{copy}: duplicate (a copy of {rows[-1][0]})"
    assert "Left out: 2 recordings" in page
    (warning,) = (line for line in metrics["warnings"] if "cohort" in line)
    start = f"2 of the 3 test speakers are in the cohort of the score normalization ({', '.join(sorted(in_cohort))})"
    assert warning.startswith(start)
    assert warning in page
    assert printed.stderr.count("in the cohort of the score normalization") == 1
    assert "no interval: 3 speakers" in " ".join(metrics["warnings"])


def test_a_scored_list_warns_of_speakers_in_the_cohort(
    system: SystemFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    normalizer = with_cohort(system)
    known = str(normalizer.cohort_speakers_[0])
    vectors = np.random.default_rng(0).standard_normal((3, normalizer.cohort_.shape[1])).astype(np.float32)
    arrays = {"embeddings": vectors, "id": np.array(["a", "b", "c"]), "duration_s": np.full(3, 3.0)}
    (tmp_path / "trials.txt").write_text("1 a b\n")
    for third, warned in (("x", False), (known, False)):
        np.savez(tmp_path / "e.npz", **arrays, speaker=np.array(["x", "x", third]))
        score_trial_list(tmp_path / "e.npz", tmp_path / "trials.txt", tmp_path / "s.csv", system=system.path)
        assert ("1 test speaker is in the cohort" in caplog.text) == warned  # c is in no trial
    (tmp_path / "trials.txt").write_text("1 a b\n0 a c\n")
    score_trial_list(tmp_path / "e.npz", tmp_path / "trials.txt", tmp_path / "s.csv", system=system.path)
    assert f"1 test speaker is in the cohort of the score normalization ({known})" in caplog.text


def test_a_damaged_list_of_what_was_left_out(tmp_path: Path) -> None:
    write_table(tmp_path / "left_out.csv", HEADER, LEFT_OUT)
    assert read_left_out(tmp_path / "left_out.csv")[1:] == [
        Remark("s05/empty.flac", "s05", Reason.EMPTY, ""),
        Remark("zed/only.flac", "zed", Reason.SILENT, ""),
    ]
    for header, rows in ((HEADER[:4], [row[:4] for row in LEFT_OUT]), (HEADER, [("a", "b", "left out", "odd", "")])):
        write_table(tmp_path / "left_out.csv", header, rows)
        with pytest.raises(ManifestError, match=r"left_out\.csv is damaged"):
            read_left_out(tmp_path / "left_out.csv")
