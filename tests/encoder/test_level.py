"""The level of a recording changes neither its embedding nor an answer, from full scale down to -60 dBFS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from support.voices import mixed, spoken
from xvectors import SpeakerEncoder
from xvectors.backends import length_normalize
from xvectors.config import load_recipe
from xvectors.system.folder import SystemFolder
from xvectors.system.serialization import read_description, write_description
from xvectors.system.upgrade import upgrade_system
from xvectors.verification.fingerprint import SYSTEM_FORMAT_VERSION


@pytest.fixture(scope="module")
def starter() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def voices() -> list[np.ndarray]:
    return [mixed(*parts, 30.0).astype(np.float32) for parts in spoken(5, 3)]


def brought_to(wave: np.ndarray, level_dbfs: float) -> np.ndarray:
    return (wave * (10 ** (level_dbfs / 20) / np.std(wave))).astype(np.float32)


def rounded(wave: np.ndarray) -> np.ndarray:
    """As a 16-bit file holds it."""
    return (np.round(wave * 32768) / 32768).astype(np.float32)


def cosines(encoder: SpeakerEncoder, left: list[np.ndarray], right: list[np.ndarray]) -> np.ndarray:
    both = length_normalize(encoder.encode(left)), length_normalize(encoder.encode(right))
    return np.asarray((both[0] * both[1]).sum(axis=1))


def test_the_embedding_is_the_same_at_every_level(starter: SpeakerEncoder, voices: list[np.ndarray]) -> None:
    """What 16 bits round away is noise 41 dB below speech at -60 dBFS, beside 30 dB of the voices' own."""
    for level_dbfs in (-20.0, -40.0, -60.0):
        changed = [brought_to(wave, level_dbfs) for wave in voices]
        assert cosines(starter, voices, changed).min() > 0.9999
        assert cosines(starter, voices, [rounded(wave) for wave in changed]).min() > 0.93


def test_the_answer_is_the_same_at_every_level(starter: SpeakerEncoder, voices: list[np.ndarray]) -> None:
    """In 16 bits, against the same voice and another."""
    first, second, other = voices[0], voices[0][len(voices[0]) // 2 :], voices[1]
    for against in (second, other):
        loud = starter.verify(first, against)
        quiet = starter.verify(first, rounded(brought_to(against, -60.0)))
        assert quiet.answer == loud.answer
        assert loud.llr is not None
        assert quiet.llr is not None
        assert quiet.llr == pytest.approx(loud.llr, abs=1.0)
        assert any("very quiet" in note for note in quiet.recordings[1].quality.notes)
    assert starter.verify(first, second).same_speaker


@pytest.mark.parametrize(("recipe", "expected"), [("starter", True), ("lab", False)])
def test_an_upgraded_system_follows_its_mean_normalization(recipe: str, expected: bool, tmp_path: Path) -> None:
    folder = SystemFolder(tmp_path)
    write_description(folder, load_recipe(recipe), ["a", "b"])
    text = folder.description.read_text(encoding="utf-8")
    line = f"normalize_level = {str(expected).lower()}\n"
    assert line in text
    old = text.replace(line, "").replace("mean_normalization", "mean_normalisation")
    old = old.replace(f"format_version = {SYSTEM_FORMAT_VERSION}", "format_version = 1")
    folder.description.write_text(old, encoding="utf-8")
    safetensors.numpy.save_file({"weight": np.zeros(1)}, folder.weights)
    upgrade_system(folder)
    assert read_description(folder).recipe.features.normalize_level is expected
