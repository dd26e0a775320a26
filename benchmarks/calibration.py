"""How many speakers a calibration needs: what it loses on others, by how many it was learned from.

    python benchmarks/calibration.py SYSTEM

SYSTEM is a system directory with its corpus. Its held-out and its test speakers, none of whom the network knows, are
drawn together and divided afresh in every draw: so many to learn from, whole recordings and crops, and ten others to
measure on, all pairs of whole recordings, by cosine. `lost` is Cllr less minCllr in bits: mean and greatest over draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from xvectors import SpeakerEncoder
from xvectors.corpus import TEST, VAL, Manifest
from xvectors.metrics import ROC
from xvectors.system import SystemFolder
from xvectors.training.calibrate import embed_with_crops
from xvectors.trials import all_pairs
from xvectors.verification import Basis, Verifier, learn_verifier

NUM_SPEAKERS = (4, 7, 10, 13, 16, 19)
NUM_MEASURED = 10


def lost(verifier: Verifier, others: Basis) -> float:
    """Cllr less minCllr of all pairs of whole recordings."""
    whole = others.take(others.whole)
    trials = all_pairs(whole.speakers)
    scores = verifier.score(whole.embeddings, trials)
    llrs = verifier.trial_llrs(scores, trials, whole.embeddings, whole.duration_s, whole.condition)
    roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
    return roc.cllr() - roc.min_cllr()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("system")
    options.add_argument("--draws", type=int, default=8)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    encoder = SpeakerEncoder.from_pretrained(arguments.system)
    corpus = Manifest.read_csv(SystemFolder(Path(arguments.system)).corpus)
    known = np.isin(np.array(corpus.speakers), encoder.speakers)[corpus.speaker_index]
    unknown = corpus.take(np.flatnonzero(~known & np.isin(corpus.split, (VAL, TEST))))
    shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
    basis = embed_with_crops(encoder, unknown, shortest_s, seed=arguments.seed)
    speakers = np.unique(basis.speakers)
    print(f"{len(speakers)} speakers that the network does not know, {NUM_MEASURED} of them measured in each draw")
    print(f"{'speakers':>8} {'lost':>7} {'most':>7}")
    rng = np.random.default_rng(arguments.seed)
    for number in NUM_SPEAKERS:
        if number + NUM_MEASURED > len(speakers):
            break
        losses = []
        for _ in range(arguments.draws):
            drawn = rng.permutation(speakers)
            verifier = learn_verifier(basis.take(np.isin(basis.speakers, drawn[:number])))
            losses.append(lost(verifier, basis.take(np.isin(basis.speakers, drawn[-NUM_MEASURED:]))))
        print(f"{number:>8} {np.mean(losses):>7.3f} {np.max(losses):>7.3f}", flush=True)


if __name__ == "__main__":
    main()
