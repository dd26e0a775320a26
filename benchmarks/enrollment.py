"""One speaker, several recordings: ways to make one decision of them, on speakers that the system does not know.

    python benchmarks/enrollment.py SYSTEM [--draws 12] [--json FILE]

SYSTEM is a system directory with its corpus. Its speakers that were not trained on are divided at random into halves:
one calibrates (cosine), the other is enrolled from n recordings each and tested with all other recordings and crops of
0.5, 1 and 2 s. Recordings to enroll are whole, or as likely crops of them. Figures are means over the draws. "joined"
is what the gallery does: the mean by seconds, counting as one recording of all seconds. False alarms and misses are at
LLRs above 0, and above log 99, which is about what 50 enrolled speakers need.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import mean_conditions, unknown_conditions
from xvectors.corpus import Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.gallery.store import Voiceprints
from xvectors.metrics import ROC
from xvectors.system import find_system
from xvectors.training.calibrate import embed_with_crops
from xvectors.verification import Basis, Verifier, learn_verifier
from xvectors.verification.speaker_models import model_speakers
from xvectors.verification.verifier import magnitudes_of

HIGH = float(np.log(99))
Array = NDArray[np.float64]
Way = Callable[[Verifier, Voiceprints, Basis], Array]


def joined(verifier: Verifier, enrolled: Voiceprints, test: Basis) -> Array:
    models = model_speakers(verifier, enrolled.speaker, enrolled.embeddings, enrolled.duration_s, enrolled.condition)
    scores = verifier.backend.score_matrix(models.models, test.embeddings)
    return llrs(verifier, scores, models.duration_s, models.condition, models.magnitude, test)


def mean_embedding(seconds_of: Callable[[Array], Array]) -> Way:
    def way(verifier: Verifier, enrolled: Voiceprints, test: Basis) -> Array:
        models = verifier.backend.enroll(enrolled.embeddings, enrolled.speaker, average=True)
        scores = verifier.backend.score_matrix(models, test.embeddings)
        seconds = by_speaker(seconds_of, enrolled.duration_s, enrolled)
        return llrs(verifier, scores, seconds, mean_condition(enrolled), mean_magnitude(enrolled), test)

    return way


def mean_score(verifier: Verifier, enrolled: Voiceprints, test: Basis) -> Array:
    scores = verifier.backend.score_matrix(enrolled.embeddings, test.embeddings)
    seconds = by_speaker(lambda each: np.exp(np.log(each).mean(axis=0)), enrolled.duration_s, enrolled)
    means = by_speaker(lambda each: each.mean(axis=0), scores, enrolled)
    return llrs(verifier, means, seconds, mean_condition(enrolled), mean_magnitude(enrolled), test)


def mean_llr(verifier: Verifier, enrolled: Voiceprints, test: Basis) -> Array:
    scores = verifier.backend.score_matrix(enrolled.embeddings, test.embeddings)
    magnitude = magnitudes_of(enrolled.embeddings)
    each = llrs(verifier, scores, enrolled.duration_s, enrolled.condition, magnitude, test)
    return by_speaker(lambda some: some.mean(axis=0), each, enrolled)


def llrs(
    verifier: Verifier,
    scores: NDArray[Any],
    enroll_s: Array,
    enroll_condition: NDArray[np.float32],
    enroll_magnitude: Array,
    test: Basis,
) -> Array:
    """[enrolled, test]"""
    enroll, tested = np.indices(scores.shape).reshape(2, -1)
    test_condition = None if test.condition is None else test.condition[tested]
    return verifier.llrs(
        scores.ravel(),
        enroll_s[enroll],
        test.duration_s[tested],
        enroll_condition[enroll],
        test_condition,
        enroll_magnitude=enroll_magnitude[enroll],
        test_magnitude=magnitudes_of(test.embeddings)[tested],
    ).reshape(scores.shape)


def mean_magnitude(enrolled: Voiceprints) -> Array:
    return by_speaker(lambda each: each.mean(axis=0), magnitudes_of(enrolled.embeddings), enrolled)


def mean_condition(enrolled: Voiceprints) -> NDArray[np.float32]:
    speakers, number = np.unique(enrolled.speaker, return_inverse=True)
    return mean_conditions(enrolled.condition, enrolled.duration_s, number, len(speakers))


def by_speaker(reduce: Callable[[Array], Array], values: NDArray[Any], enrolled: Voiceprints) -> Array:
    return np.stack([reduce(values[enrolled.speaker == speaker]) for speaker in np.unique(enrolled.speaker)])


WAYS: dict[str, Way] = {
    "joined": joined,
    "mean embedding, all seconds": mean_embedding(lambda each: each.sum(axis=0)),
    "mean embedding, mean seconds": mean_embedding(lambda each: each.mean(axis=0)),
    "mean of scores": mean_score,
    "mean of LLRs": mean_llr,
}


def draw(
    basis: Basis, count: int, crops: bool, rng: np.random.Generator
) -> tuple[Voiceprints, Basis, NDArray[np.bool_]]:
    """`count` recordings of every speaker to enroll, all other recordings to test, and the pairs [enrolled, test] that
    are of one speaker."""
    speakers = np.unique(basis.speakers)
    rows, used = [], []
    for speaker in speakers:
        recordings = rng.permutation(np.unique(basis.recording[basis.speakers == speaker]))[:count]
        used.append(recordings)
        for recording in recordings:
            forms = np.flatnonzero(basis.recording == recording)
            rows.append(rng.choice(forms) if crops else forms[basis.whole[forms]][0])
    chosen = basis.take(rows)
    block = Voiceprints(
        speaker=np.searchsorted(speakers, chosen.speakers),
        embeddings=chosen.embeddings,
        duration_s=chosen.duration_s,
        condition=unknown_conditions(len(chosen.speakers)) if chosen.condition is None else chosen.condition,
    )
    test = basis.take(~np.isin(basis.recording, np.concatenate(used)))
    return block, test, speakers[:, None] == test.speakers[None]


def figures(values: Array, target: NDArray[np.bool_]) -> dict[str, float]:
    own, other = values[target], values[~target]
    roc = ROC.from_scores(own, other)
    return {
        "eer": roc.eer().eer,
        "cllr": roc.cllr(),
        "false_alarms": float((other >= 0).mean()),
        "misses": float((own < 0).mean()),
        "false_alarms_high": float((other >= HIGH).mean()),
        "misses_high": float((own < HIGH).mean()),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("system", type=Path)
    options.add_argument("--draws", type=int, default=12, help="default: %(default)s")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    encoder = SpeakerEncoder.from_pretrained(arguments.system, device="cpu")
    corpus = Manifest.read_csv(find_system(arguments.system).corpus)
    unknown = ~np.isin(np.array(corpus.speakers), encoder.speakers)[corpus.speaker_index]
    shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
    basis = embed_with_crops(encoder, corpus.take(np.flatnonzero(unknown)), shortest_s)
    names = np.unique(basis.speakers)
    print(f"{len(names)} speakers, {int(basis.whole.sum())} recordings, {int((~basis.whole).sum())} crops")
    table: list[dict[str, Any]] = []
    for crops in (False, True):
        for count in (1, 2, 4, 8):
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
            for number in range(arguments.draws):
                rng = np.random.default_rng(number)
                order = rng.permutation(len(names))
                ours = np.isin(basis.speakers, names[order[: len(names) // 2]])
                verifier = learn_verifier(basis.take(ours))
                block, test, target = draw(basis.take(~ours), count, crops, rng)
                for name, way in WAYS.items():
                    measured[name].append(figures(way(verifier, block, test), target))
            for name, all_draws in measured.items():
                mean = {key: float(np.mean([one[key] for one in all_draws])) for key in all_draws[0]}
                what = "recordings and crops" if crops else "recordings"
                table.append({"enrolled": what, "n": count, "way": name, **mean})
                print(
                    f"{what:<20} n={count}  {name:<28}  EER {mean['eer']:6.2%}  Cllr {mean['cllr']:.3f}  above 0: "
                    f"false alarms {mean['false_alarms']:6.2%} misses {mean['misses']:6.2%}  "
                    f"above log 99: {mean['false_alarms_high']:6.2%} {mean['misses_high']:6.2%}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
