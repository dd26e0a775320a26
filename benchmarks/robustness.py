"""Error rates where recordings hold zeros, silence or little level: as bare samples, and as `encode` hears them.

    python benchmarks/robustness.py CORPUS --speakers 30 --each 4

CORPUS is what `xvectors train` takes. Every second recording of each speaker is changed, so that half of the pairs
compare a changed recording with one as it is; all pairs, by the system's back-end. `samples` embeds every sample there
is, at the level that it has, which is how `encode` did it up to version 0.1; `encode` is what it does by default.
Columns: EER, Cllr in bits (by seconds of sound, and of speech), and targets that are called different speakers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _timing import Row, write_json
from xvectors import Manifest, SpeakerEncoder, audio, open_corpus
from xvectors.audio.condition import measure_condition
from xvectors.audio.segments import find_spoken, hear
from xvectors.metrics import ROC
from xvectors.trials import all_pairs
from xvectors.verification.decision import MIN_PROBABILITY

RATE_HZ = 16_000
Wave = NDArray[np.float32]


def zeros(seconds: float) -> Wave:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def hiss(seconds: float) -> Wave:
    """White noise of -60 dBFS."""
    return (1e-3 * np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def in_16_bits(wave: Wave, level_dbfs: float) -> Wave:
    gain = 10 ** (level_dbfs / 20) / float(wave.std())
    return (np.round(wave * gain * 32768) / 32768).astype(np.float32)


CHANGES: dict[str, Callable[[Wave], Wave]] = {
    "as they are": lambda wave: wave,
    "1 s of zeros behind": lambda wave: np.r_[wave, zeros(1)],
    "zeros up to 10 s": lambda wave: np.r_[wave, zeros(max(0.0, 10 - len(wave) / RATE_HZ))],
    "2 s of noise at -60 dBFS behind": lambda wave: np.r_[wave, hiss(2)],
    "2 s of it in the middle": lambda wave: np.r_[wave[: len(wave) // 2], hiss(2), wave[len(wave) // 2 :]],
    "at -40 dBFS, 16 bits": lambda wave: in_16_bits(wave, -40),
    "at -60 dBFS, 16 bits": lambda wave: in_16_bits(wave, -60),
    "at -60 dBFS, float": lambda wave: (wave * (1e-3 / wave.std())).astype(np.float32),
}


def chosen(corpus: Manifest, speakers: int, each: int) -> Manifest:
    rows = [
        np.flatnonzero(corpus.speaker_index == number)[:each] for number in range(min(speakers, len(corpus.speakers)))
    ]
    return corpus.take(np.concatenate(rows))


def measured(
    encoder: SpeakerEncoder,
    embeddings: NDArray[np.float32],
    seconds: list[float],
    condition: NDArray[np.float32],
    speakers: object,
) -> Row:
    trials = all_pairs(np.asarray(speakers))
    heard_s = np.maximum(seconds, 0.01)
    verifier = encoder.verifier
    llrs = verifier.trial_llrs(verifier.score(embeddings, trials), trials, embeddings, heard_s, condition)
    roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
    missed = float(np.mean(llrs[trials.target] < -math.log(MIN_PROBABILITY / (1 - MIN_PROBABILITY))))
    return {"eer": roc.eer().eer, "cllr": roc.cllr(), "called_different": missed}


def samples_alone(encoder: SpeakerEncoder, waves: list[Wave]) -> NDArray[np.float32]:
    encoder.fbank.normalize_level = False
    by_length = sorted(range(len(waves)), key=lambda index: len(waves[index]))
    embeddings = np.zeros((len(waves), encoder.embedding_dim), np.float32)
    for first in range(0, len(waves), 16):
        some = by_length[first : first + 16]
        embeddings[some] = encoder.engine.embed([waves[index] for index in some])
    encoder.fbank.normalize_level = True
    return embeddings


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus")
    options.add_argument("--system", default="starter", help="a system directory (default: %(default)s)")
    options.add_argument("--speakers", type=int, default=1000, help="the first so many speakers alone")
    options.add_argument("--each", type=int, default=1000, help="the first so many recordings of each")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    encoder = SpeakerEncoder.from_pretrained(arguments.system, device="cpu")
    corpus = chosen(open_corpus(arguments.corpus), arguments.speakers, arguments.each)
    speakers = corpus.speaker_index
    second = [bool(np.count_nonzero(speakers[:row] == speakers[row]) % 2) for row in range(len(corpus))]
    waves = [audio.read(corpus.full_path(row), sample_rate_hz=RATE_HZ)[0] for row in range(len(corpus))]
    print(f"{len(waves)} recordings of {len(np.unique(speakers))} speakers, {sum(map(len, waves)) / RATE_HZ:.0f} s")
    print(f"{'':<34} {'':<8} {'EER':>7} {'Cllr':>6} {'called different':>17}")
    rows: list[Row] = []
    for name, change in CHANGES.items():
        changed = [change(wave) if at else wave for wave, at in zip(waves, second, strict=True)]
        heard, speech_s = zip(*(hear(wave, RATE_HZ, find_spoken) for wave in changed), strict=True)
        conditions = [np.stack([measure_condition(wave, RATE_HZ) for wave in waves]) for waves in (changed, heard)]
        both = {
            "samples": (samples_alone(encoder, changed), [len(wave) / RATE_HZ for wave in changed], conditions[0]),
            "encode": (encoder.encode(changed), list(speech_s), conditions[1]),
        }
        for how, (embeddings, seconds, condition) in both.items():
            row = measured(encoder, embeddings, seconds, condition, speakers)
            rows.append({"change": name, "how": how, **row})
            print(
                f"{name:<34} {how:<8} {row['eer']:>7.1%} {row['cllr']:>6.3f} {row['called_different']:>17.1%}",
                flush=True,
            )
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
