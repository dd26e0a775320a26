"""Embed copies of a calibration set as if its recordings had been made otherwise: by telephone, in noise, shouted."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from xvectors import audio
from xvectors.augment.shifts import SHIFTS
from xvectors.corpus import Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.progress import progress_bar
from xvectors.trials import sample_recordings
from xvectors.verification import Basis
from xvectors.verification.calibration_set import Shifted
from xvectors.verification.conditions import MIN_SPEAKERS
from xvectors.verification.decision import MIN_SPEECH_S

EACH_SPEAKER, MAX_RECORDINGS = 4, 400
MAX_COPIED_S = 6.0
"""Longer recordings are cut to their first seconds before they are copied."""


def embed_shifted(
    encoder: SpeakerEncoder, manifest: Manifest, basis: Basis, *, seed: int = 0, progress: bool = False
) -> Shifted | None:
    """Embed copies of some recordings of a calibration set under each of `augment.shifts.SHIFTS`.

    Copies without enough speech are left out. Nothing depends on the order of the recordings.

    Parameters
    ----------
    manifest
        The recordings; `basis.recording` numbers its rows.
    basis
        The calibration set, as `embed_with_crops` returns it.

    Returns
    -------
    The copies; None where the set has too few speakers with two recordings to learn from them.
    """
    whole = basis.take(basis.whole)
    _, counts = np.unique(whole.speakers, return_counts=True)
    if np.count_nonzero(counts >= 2) < MIN_SPEAKERS:
        return None
    rows = sample_recordings(whole.speakers, each=EACH_SPEAKER, at_most=MAX_RECORDINGS, seed=seed)
    rate_hz = encoder.sample_rate_hz
    embeddings: list[NDArray[np.float32]] = []
    conditions: list[NDArray[np.float32]] = []
    seconds: list[float] = []
    of_row: list[int] = []
    shifts: list[str] = []
    with progress_bar("Shifted recordings", len(rows), enabled=progress) as bar:
        for row in rows.tolist():
            number = int(whole.recording[row])
            duration_s = manifest.duration_s[number]
            length_s = MAX_COPIED_S if np.isnan(duration_s) else min(MAX_COPIED_S, float(duration_s))
            waveform, _ = audio.read(
                manifest.full_path(number),
                sample_rate_hz=rate_hz,
                start_s=float(manifest.start_s[number]),
                duration_s=length_s,
                channel=encoder.engine.channel,
            )
            heard = []
            for name, shift in SHIFTS.items():
                generator = np.random.default_rng([seed, zlib.crc32(f"{name}/{manifest.id[number]}".encode())])
                copy = encoder.listen(shift(waveform, rate_hz, generator))
                if copy.speech_s >= MIN_SPEECH_S and not copy.quality.is_unlike_speech:
                    heard.append((name, copy))
            if heard:
                embeddings.append(encoder.encode_heard([copy.samples for _, copy in heard]))
                conditions += [copy.condition for _, copy in heard]
                seconds += [copy.speech_s for _, copy in heard]
                shifts += [name for name, _ in heard]
                of_row += [row] * len(heard)
            bar.advance()
    if not of_row:
        return None
    copied = whole.take(of_row)
    return Shifted(
        basis=Basis(
            embeddings=np.concatenate(embeddings),
            speakers=copied.speakers,
            recording=copied.recording,
            duration_s=np.array(seconds),
            whole=np.ones(len(of_row), dtype=np.bool_),
            domain=copied.domain,
            session=copied.session,
            condition=np.stack(conditions),
        ),
        shift=np.array(shifts, dtype=np.str_),
    )
