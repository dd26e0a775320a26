"""A verifier that learned from simulated speakers, and others to use it on."""

from __future__ import annotations

import numpy as np
import pytest

from support.drawn_voices import Voices, make_voices
from xvectors.verification import Basis, Verifier, learn_verifier


@pytest.fixture
def voices() -> Voices:
    return make_voices(40, seed=1)


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    voices = make_voices(30, seed=2)
    rows, speakers, recording, duration, whole = [], [], [], [], []
    for speaker in range(30):
        for number in range(4):
            for seconds in (5.0, 0.5, 1.0, 2.0):
                rows.append(voices.record(speaker, seconds)[0][0])
                speakers.append(f"s{speaker:02d}")
                recording.append(4 * speaker + number)
                duration.append(seconds)
                whole.append(seconds > 2)
    basis = Basis(
        embeddings=np.array(rows),
        speakers=np.array(speakers),
        recording=np.array(recording),
        duration_s=np.array(duration),
        whole=np.array(whole),
    )
    return learn_verifier(basis)
