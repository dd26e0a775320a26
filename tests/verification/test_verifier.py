"""The two files of a verifier: what is read is what was written, and damage is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xvectors.backends import BACKENDS
from xvectors.config import parse_toml, to_toml
from xvectors.errors import CheckpointError, ConfigError, StorageError
from xvectors.trials import all_pairs
from xvectors.verification import Basis, Verifier, cosine_verifier, learn_verifier, load_verifier, save_verifier


@pytest.fixture(scope="module")
def learned(simulate: Callable[..., Basis]) -> Verifier:
    candidates = {name: BACKENDS[name] for name in ("cosine", "wccn")}
    trained_on = simulate(30, 5, seed=2, channel=3.0)
    training = trained_on.embeddings, trained_on.speakers
    return learn_verifier(simulate(24, 5, seed=1, channel=3.0), training, candidates=candidates)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return {
        "backend": tmp_path / "backend.npz",
        "calibration": tmp_path / "calibration.toml",
        "fingerprint": "a" * 64,
    }


def test_written_and_read_it_gives_the_same_llrs(
    learned: Verifier, files: dict[str, Any], simulate: Callable[..., Basis]
) -> None:
    save_verifier(learned, **files)
    read = load_verifier(**files)
    assert (read.name, read.p_target, read.threshold, read.speakers) == ("wccn", 0.5, 0.0, learned.speakers)
    assert read.backend_table == learned.backend_table
    assert read.basis == learned.basis
    assert read.figures == learned.figures
    basis = simulate(5, 3, seed=2, channel=3.0)
    trials = all_pairs(basis.speakers)
    scores = [verifier.score(basis.embeddings, trials) for verifier in (learned, read)]
    np.testing.assert_array_equal(*scores)
    sides = basis.duration_s[trials.enroll], basis.duration_s[trials.test]
    np.testing.assert_array_equal(learned.llrs(scores[0], *sides), read.llrs(scores[1], *sides))


def test_without_calibration_it_is_cosine(files: dict[str, Any]) -> None:
    verifier = load_verifier(**files)
    assert (verifier.name, verifier.is_calibrated) == ("cosine", False)
    vectors = np.array([[1, 0], [1, 1], [0, 2]], dtype=np.float32)
    scores = verifier.score(vectors, all_pairs(["a", "a", "b"]))
    np.testing.assert_allclose(scores, [0.5**0.5, 0.0, 0.5**0.5], atol=1e-6)
    with pytest.raises(ConfigError, match="there is no calibration to write"):
        save_verifier(cosine_verifier(), **files)


def test_another_prior_moves_the_threshold(learned: Verifier, files: dict[str, Any]) -> None:
    save_verifier(learned, **files)
    change(files["calibration"], "decision", {"p_target": 0.01})
    assert load_verifier(**files).threshold == pytest.approx(np.log(99))


def test_another_system_is_not_taken_for_the_calibrated_one(learned: Verifier, files: dict[str, Any]) -> None:
    save_verifier(learned, **files)
    with pytest.raises(CheckpointError, match="was learned with other features, another network or other weights"):
        load_verifier(**{**files, "fingerprint": "b" * 64})


@pytest.mark.parametrize(("key", "value", "message"), [
    ("format_version", 9, "format version 9 is not 2"),
    ("format_version", 1, "earlier xvectors; `xvectors upgrade .*` brings it up to date"),
    ("basis", None, r"the table \[basis\] is missing"),
    ("decision", {"p_target": 1.5}, "they are 1.5 and 'wccn'"),
    ("calibration", {"scale": 1.0}, "not a saved calibration"),
])  # fmt: skip
def test_damage_is_named(learned: Verifier, files: dict[str, Any], key: str, value: Any, message: str) -> None:
    save_verifier(learned, **files)
    change(files["calibration"], key, value)
    with pytest.raises(CheckpointError, match=message):
        load_verifier(**files)


def test_files_that_are_no_such_files(learned: Verifier, files: dict[str, Any]) -> None:
    save_verifier(learned, **files)
    files["backend"].unlink()
    with pytest.raises(CheckpointError, match=r"backend\.npz(: no such file| is damaged, or no back-end)"):
        load_verifier(**files)
    files["calibration"].write_text("scale = ")
    with pytest.raises(CheckpointError, match="not valid TOML"):
        load_verifier(**files)


def test_what_cannot_be_removed_is_an_error(learned: Verifier, files: dict[str, Any]) -> None:
    files["calibration"].mkdir()
    with pytest.raises(StorageError, match=r"calibration\.toml: cannot be removed"):
        save_verifier(learned, **files)


def change(path: Path, key: str, value: Any) -> None:
    table = parse_toml(path.read_text(), str(path))
    if value is None:
        del table[key]
    else:
        table[key] = value
    path.write_text(to_toml(table))
