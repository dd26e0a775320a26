"""Error rates of a system where recordings are short and narrow: whole, 2 s, 1 s and 0.5 s, at 16 kHz and by way of 8.

    python benchmarks/conditions.py SYSTEM
    python benchmarks/conditions.py SYSTEM --corpus OTHERS --peer resemblyzer --json conditions.json

EER by cosine over all pairs of the system's test speakers (SYSTEM/corpus.csv), or of all recordings of CORPUS, which is
what `xvectors train` takes, where it names no test speakers. Both sides of a pair are cut to the same length, from the
middle; a shorter recording stays whole. `8 kHz` is resampled to 8 kHz and back. The peer, Resemblyzer as in
embedding_speed.py, gets the very same samples; its preprocess_wav cuts pauses out of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _timing import Row, write_json
from _unseen import unheard
from embedding_speed import Embed, resemblyzer
from xvectors import Manifest, SpeakerEncoder, audio, open_corpus
from xvectors.backends import all_pairs_scores
from xvectors.corpus import TEST
from xvectors.metrics import eer
from xvectors.system import SystemFolder, find_system

RATE_HZ, NARROW_HZ = 16_000, 8_000
LENGTHS_S: tuple[float | None, ...] = (None, 2.0, 1.0, 0.5)


def middle(waveform: NDArray[np.float32], duration_s: float | None) -> NDArray[np.float32]:
    """The middle `duration_s` of a waveform at RATE_HZ; all of a shorter one, and with None."""
    wanted = len(waveform) if duration_s is None else min(len(waveform), round(duration_s * RATE_HZ))
    start = (len(waveform) - wanted) // 2
    return waveform[start : start + wanted]


def narrowed(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """To 8 kHz and back."""
    return audio.resample(audio.resample(waveform, RATE_HZ, NARROW_HZ), NARROW_HZ, RATE_HZ)


def measure(contenders: dict[str, Embed], corpus: Manifest) -> list[Row]:
    """The error rate of every contender at every length and bandwidth, one row each."""
    whole = [audio.read(corpus.full_path(row), sample_rate_hz=RATE_HZ)[0] for row in range(len(corpus))]
    rows: list[Row] = []
    for bandwidth, heard in (("16 kHz", whole), ("8 kHz", [narrowed(waveform) for waveform in whole])):
        for duration_s in LENGTHS_S:
            crops = [middle(waveform, duration_s) for waveform in heard]
            length = "whole" if duration_s is None else f"{duration_s:g} s"
            for name, embed in contenders.items():
                target, nontarget = all_pairs_scores(embed(crops), corpus.speaker_index)
                rows.append({"name": name, "bandwidth": bandwidth, "length": length})
                rows[-1] |= {"eer": eer(target, nontarget).eer, "num_trials": len(target) + len(nontarget)}
                print(f"{name:<14} {bandwidth:>9} {length:>7} {rows[-1]['eer']:>8.2%}", flush=True)
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("system", help="a system directory, or starter")
    options.add_argument("--corpus", help="other recordings than the system's own")
    options.add_argument("--peer", choices=["resemblyzer"], help="a published model, beside the system")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    encoder = SpeakerEncoder.from_pretrained(arguments.system, device="cpu")
    folder = find_system(arguments.system)
    corpus = open_corpus(arguments.corpus) if arguments.corpus else own_corpus(folder)
    tested = unheard(corpus, encoder.speakers)
    contenders: dict[str, Embed] = {"xvectors": lambda waves: encoder.encode(waves, sample_rate_hz=RATE_HZ)}
    if arguments.peer:
        contenders[arguments.peer] = resemblyzer()
    print(f"{len(tested)} recordings of {len(tested.speakers)} speakers")
    print(f"{'':<14} {'bandwidth':>9} {'length':>7} {'EER':>8}")
    write_json(arguments.json, measure(contenders, tested))


def own_corpus(folder: SystemFolder) -> Manifest:
    """The corpus of training, whose test speakers test; SystemExit where the system came without one."""
    if not folder.corpus.is_file():
        raise SystemExit(f"{folder.path} came without its corpus; name one with --corpus")
    corpus = Manifest.read_csv(folder.corpus)
    if not (corpus.split == TEST).any():
        raise SystemExit(f"{folder.corpus} has no test speakers; name another corpus with --corpus")
    return corpus


if __name__ == "__main__":
    main()
