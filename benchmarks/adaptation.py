"""What unlabeled recordings of a corpus bring to a system that was calibrated on others (`calibrate --adapt-to`).

    python benchmarks/adaptation.py starter exp/campplus --data shared/data

Each corpus of DATA is left out in turn. The back-end is learned on up to 20 speakers of each of the others, with trials
within a corpus, and adapted to whole recordings of half of the speakers of the corpus left out; all pairs of whole
recordings of its other speakers are measured. `20 of 4 people`: all unlabeled recordings are of four. `one of each of
the tested`: they are other recordings of those who are tested, as where the enrolled are among them, compared with
`none, tested without one`. Means over the corpora; LLRs within the bounds and without regard to the condition. Answered
is the share of trials with a probability of 80 % or more, and wrong that of the answers to trials of the same speaker,
and of different speakers.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _timing import Row, write_json
from shifts import figures
from xvectors import SpeakerEncoder, open_corpus
from xvectors.errors import XVectorsError
from xvectors.training.calibrate import embed_with_crops
from xvectors.verification import Basis, Verifier
from xvectors.verification.calibration_set import all_trials
from xvectors.verification.new_domain import Adaptation, NewDomain
from xvectors.verification.own_speakers import learn_from_own

CORPORA = (
    *("speechocean762", "librispeech-dev-clean", "alphanumeric-accents", "arabic-speech-commands", "dspspeech20"),
    "gcompris-voices",
)
EACH, MOST = 5, 60
"""Largest numbers of recordings of a speaker, and of speakers of a corpus."""
SPEAKERS = 20
"""Speakers of a corpus to calibrate on."""
NUMBERS = (20, 50, 100)
FEW = 4
BACK_ENDS = ("cosine", "cosine_centered", "asnorm")
COLUMNS = ("eer", "cllr", "min_cllr", "answered", "wrong_same", "wrong_different")


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """One corpus left out, with one division of its speakers."""

    name: str
    others: Basis
    unlabeled: Basis
    tested: Basis
    order: NDArray[np.int64]


def heard(encoder: SpeakerEncoder, data: Path, name: str, work: Path) -> Basis:
    """Recordings of a corpus and crops of them, from an earlier run if there was one."""
    path = work / f"{name}-{encoder.fingerprint[:12]}.npz"
    if not path.is_file():
        corpus = open_corpus(data / name)
        rng = np.random.default_rng(0)
        rows: list[int] = []
        for speaker in rng.permutation(len(corpus.speakers))[:MOST]:
            rows += rng.permutation(np.flatnonzero(corpus.speaker_index == speaker))[:EACH].tolist()
        corpus = corpus.take(sorted(rows))
        shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
        work.mkdir(parents=True, exist_ok=True)
        basis = embed_with_crops(encoder, corpus, shortest_s)
        np.savez(path, **basis.arrays())
    with np.load(path) as arrays:
        basis = Basis(**arrays)
    names = np.char.add(f"{name}/", basis.speakers)
    return replace(basis, speakers=names, domain=np.full(len(names), name), session=None, condition=None)


def folds(corpora: dict[str, Basis], seed: int) -> Iterator[Fold]:
    for name, left_out in corpora.items():
        rng = np.random.default_rng(seed)
        others = [of_speakers(one, SPEAKERS, rng) for key, one in corpora.items() if key != name]
        recording = np.concatenate([one.recording + number * 10**6 for number, one in enumerate(others)])
        joined = {
            key: np.concatenate([getattr(one, key) for one in others])
            for key in ("embeddings", "speakers", "duration_s", "whole", "domain")
        }
        whole = left_out.take(left_out.whole)
        speakers = rng.permutation(np.unique(whole.speakers))
        first = np.isin(whole.speakers, speakers[: len(speakers) // 2])
        yield Fold(
            name=name,
            others=Basis(recording=recording, **joined),
            unlabeled=whole.take(first),
            tested=whole.take(~first),
            order=rng.permutation(int(first.sum())),
        )


def of_speakers(basis: Basis, number: int, rng: np.random.Generator) -> Basis:
    return basis.take(np.isin(basis.speakers, rng.permutation(np.unique(basis.speakers))[:number]))


def choices(fold: Fold) -> Iterator[tuple[str, Basis, Basis]]:
    """Yield a name, the unlabeled recordings and those that are tested."""
    for number in NUMBERS:
        yield str(number), fold.unlabeled.take(fold.order[:number]), fold.tested
    few = np.unique(fold.unlabeled.speakers)[:FEW]
    yield f"20 of {FEW} people", fold.unlabeled.take(np.isin(fold.unlabeled.speakers, few)), fold.tested
    speakers, place = np.unique(fold.tested.speakers, return_inverse=True)
    rank = np.array([np.sum(place[:row] == place[row]) for row in range(len(place))])
    assert len(speakers) > 2
    later = fold.tested.take(rank >= 1)
    yield "none, tested without one", later.take(np.zeros(len(later.whole), dtype=bool)), later
    yield "one of each of the tested", fold.tested.take(rank < 1), later


def measure(verifier: Verifier, tested: Basis) -> Row:
    trials = all_trials(tested)
    scores = verifier.score(tested.embeddings, trials)
    return figures(verifier.trial_llrs(scores, trials, tested.embeddings, tested.duration_s), trials.target)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("systems", nargs="+", help="system directories, or starter")
    options.add_argument("--data", type=Path, required=True, help="folder with the corpora")
    options.add_argument("--work", type=Path, default=Path("exp/adaptation"), help="where to keep the embeddings")
    options.add_argument("--back-ends", nargs="+", default=BACK_ENDS, help="those to name, or choose")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    rows: list[Row] = []
    for system in arguments.systems:
        encoder = SpeakerEncoder.from_pretrained(system, device="cpu")
        corpora = {name: heard(encoder, arguments.data, name, arguments.work) for name in CORPORA}
        of: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for fold in folds(corpora, arguments.seed):
            for backend in arguments.back_ends:
                named = None if backend == "choose" else backend
                before = learn_from_own(fold.others, backend_name=named)
                of[backend, "none", ""].append(measure(before, fold.tested))
                for name, unlabeled, tested in choices(fold):
                    if not len(unlabeled.speakers):
                        of[backend, name, ""].append(measure(before, tested))
                        continue
                    for part, keep in (("means", True), ("means and cohort", False)):
                        if keep is False and before.backend.normalizer is None and named is not None:
                            continue
                        try:
                            new = NewDomain(embeddings=unlabeled.embeddings, duration_s=unlabeled.duration_s)
                            adaptation = Adaptation.to(new, fold.others, keep_cohort=keep)
                            after = learn_from_own(
                                adaptation.moved(fold.others), backend_name=named, complete=adaptation.complete
                            )
                        except XVectorsError as error:
                            print(f"{system} {fold.name} {backend} {name}: {error}")
                            continue
                        row = measure(after, tested)
                        row |= {"weight": adaptation.weight, "num_groups": adaptation.num_groups}
                        row |= {"distance": adaptation.distance}
                        of[backend, name, part].append(row)
                        rows.append({"system": system, "left_out": fold.name, "back_end": backend} | row)
                        rows[-1] |= {"unlabeled": name, "part": part, "num": len(unlabeled.speakers)}
        print(f"{Path(system).name:<48}" + "".join(f"{column:>17}" for column in COLUMNS) + "  greatest Cllr")
        for (backend, name, part), found in of.items():
            means = [float(np.mean([row[column] for row in found])) for column in COLUMNS]
            worst = max(row["cllr"] for row in found)
            label = f"{backend}, {name}{', ' + part if part else ''}"
            extra = ""
            if part:
                extra = f"  moved {np.mean([row['weight'] for row in found]):.0%}, "
                extra += f"{np.mean([row['num_groups'] for row in found]):.0f} people, "
                extra += f"distance {min(row['distance'] for row in found):.2f} to "
                extra += f"{max(row['distance'] for row in found):.2f}"
            print(f"{label:<48}" + "".join(f"{mean:>17.3f}" for mean in means) + f"{worst:>15.2f}{extra}", flush=True)
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
