"""Ten million PLDA trials, every recording of one list against every one of another: ours beside SpeechBrain's.

    python benchmarks/plda_peer.py [--recordings 3163] [--threads 2] [--rounds 3]

SpeechBrain's fast_PLDA_scoring (pip install --no-deps speechbrain hyperpyyaml) scores in float64. Both must agree.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from _speechbrain import speechbrain
from _timing import interleaved_medians
from xvectors.backends import PLDA, Backend

DIM = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=3163, help="on either side (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    peer = speechbrain("processing.PLDA_LDA")
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(DIM, DIM)) / np.sqrt(DIM)
    backend = Backend([], PLDA.from_covariances(np.zeros(DIM), np.eye(DIM), factor @ factor.T))
    sides = rng.standard_normal((2, arguments.recordings, DIM), dtype=np.float32)
    names = [np.array([f"{side}{row:06d}" for row in range(arguments.recordings)], dtype="|O") for side in "et"]

    def statistics_of(side: int) -> object:
        ones, none = np.ones((arguments.recordings, 1)), np.array([None] * arguments.recordings)
        stat1 = sides[side].astype(np.float64)
        return peer.StatObject_SB(names[side], names[side], none, none, ones, stat1)

    enroll, test = statistics_of(0), statistics_of(1)
    trials = peer.Ndx(models=names[0], testsegs=names[1])
    trials.trialmask[:] = True

    def theirs() -> NDArray[np.float64]:
        scores = peer.fast_PLDA_scoring(enroll, test, trials, np.zeros(DIM), factor, np.eye(DIM), check_missing=False)
        return np.asarray(scores.scoremat)

    def ours() -> NDArray[np.float32]:
        return backend.score_matrix(sides[0], sides[1])

    difference = np.abs(ours() - theirs()).max()
    assert difference < 0.01, f"they differ by {difference}"
    with threadpool_limits(arguments.threads):
        medians = interleaved_medians({"ours": ours, "theirs": theirs}, arguments.rounds)
    own, other = medians["ours"], medians["theirs"]
    count = arguments.recordings**2 / 1e6
    print(f"{count:.1f} million PLDA trials, {DIM} dimensions: ours {own:.2f} s, SpeechBrain's {other:.2f} s")
    print(f"largest difference of scores {difference:.1e}")


if __name__ == "__main__":
    main()
