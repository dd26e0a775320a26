"""What each ingredient of a calibration brings on corpora that took no part in it.

`python benchmarks/left_out_corpora.py starter exp/campplus --data shared/data` takes up to 34 speakers of each of six
corpora, with up to 5 recordings and copies of these under made shifts. Each corpus is left out in turn: back-end and
calibration are learned on the five others and measured on it, with all pairs within the corpus. Back-ends are fitted on
other speakers of speechocean762 and librispeech-251, whom the starter was trained on.

Every back-end is measured with durations alone, with the lengths of embeddings, with the conditions of both sides, and
with both, which is what `calibrate` learns. "As recorded" are whole recordings; "shifted" is the mean over the made
shifts, on both sides and on one, of copies whose shift the calibration has learned from. The last column is the Cllr
of the calibration set itself. Embeddings are kept in --work.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from _timing import Row, write_json
from shifts import figures, heard
from xvectors import SpeakerEncoder, open_corpus
from xvectors.backends import AffineCalibration
from xvectors.corpus import scan
from xvectors.metrics import ROC
from xvectors.training.calibrate import embed_with_crops
from xvectors.trials import Trials
from xvectors.verification import Basis, Verifier, learn_verifier
from xvectors.verification.calibration_set import AS_RECORDED, Shifted, all_trials, shift_trials, some_recordings
from xvectors.verification.conditions import with_condition
from xvectors.verification.magnitude import trial_quality

CORPORA = (
    "speechocean762",
    "librispeech-dev-clean",
    "alphanumeric-accents",
    "arabic-speech-commands",
    "dspspeech20",
    "gcompris-voices",
)
SINGLES = "librispeech-251"
SPEAKERS, EACH, EACH_FITTED = 34, 5, 2
HELD_OUT = 10
"""Every how manieth speaker of speechocean762 the starter was not trained on (tools/make_starter.py)."""
BACKENDS = ("cosine", "cosine_centered", "asnorm")
INGREDIENTS = {
    "durations": (False, False),
    "+ lengths": (True, False),
    "+ conditions": (False, True),
    "all": (True, True),
}
COLUMNS = ("path", "speaker", "domain")


def write_lists(data: Path, work: Path) -> None:
    """Write measured.csv, the speakers to learn from and to measure, and fitted.csv, those to fit back-ends on."""
    work.mkdir(parents=True, exist_ok=True)
    measured: list[dict[str, object]] = []
    fitted: list[dict[str, object]] = []
    for name in CORPORA:
        corpus = open_corpus(data / name)
        rows = defaultdict(list)
        for index in range(len(corpus)):
            row = corpus.row(index)
            rows[f"{name}/{row.speaker}"].append(row.path.resolve())
        chosen = sorted(rows)[::HELD_OUT] if name == CORPORA[0] else sorted(rows, key=hash_of)[:SPEAKERS]
        for speaker, paths in rows.items():
            some = sorted(paths, key=lambda path: hash_of(path.name))
            if speaker in chosen:
                measured += [{"path": path, "speaker": speaker, "domain": name} for path in some[:EACH]]
            elif name == CORPORA[0]:
                fitted += [{"path": path, "speaker": speaker, "domain": name} for path in some[:EACH_FITTED]]
    for path in sorted((data / SINGLES).glob("*.flac")):
        speaker = f"{SINGLES}/{path.stem.split('-')[0]}"
        fitted.append({"path": path.resolve(), "speaker": speaker, "domain": SINGLES})
    for list_, rows_of_list in (("measured", measured), ("fitted", fitted)):
        with (work / f"{list_}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows_of_list)


def hash_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def crops(encoder: SpeakerEncoder, list_: Path) -> Basis:
    """The recordings of a list, whole and cropped, from a file beside it if they were embedded before."""
    path = list_.with_name(f"{list_.stem}-crops-{encoder.fingerprint[:12]}.npz")
    if not path.is_file():
        shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
        basis = embed_with_crops(encoder, scan(open_corpus(list_)).manifest, shortest_s, progress=True)
        np.savez(path, **basis.arrays())
    with np.load(path) as arrays:
        return Basis(**arrays)


def learn(backend: str, basis: Basis, shifted: Shifted, fitted: Basis, ingredients: tuple[bool, bool]) -> Verifier:
    magnitude, condition = ingredients
    whole = fitted.take(fitted.whole)
    verifier = learn_verifier(basis, (whole.embeddings, whole.speakers), backend_name=backend)
    some = some_recordings(basis, 0)
    trials = all_trials(some)
    quality, names = trial_quality(some, trials, magnitude=magnitude)
    scores = verifier.score(some.embeddings, trials)
    verifier = replace(verifier, calibration=AffineCalibration().fit(scores, trials.target, quality, names))
    return with_condition(verifier, basis, shifted) if condition else verifier


def measure(verifier: Verifier, whole: Basis, shifted: Shifted) -> Iterator[tuple[str, Row]]:
    """Yield the figures as recorded, then those of every shift and way of pairing."""
    copies = shifted.basis
    assert whole.condition is not None
    assert copies.condition is not None
    embeddings = np.concatenate([whole.embeddings, copies.embeddings])
    seconds = np.concatenate([whole.duration_s, copies.duration_s])
    condition = np.concatenate([whole.condition, copies.condition])
    for group in shift_trials(whole, shifted, np.random.default_rng(0)):
        trials = Trials(enroll=group.enroll, test=group.test, target=group.target)
        llrs = verifier.trial_llrs(verifier.score(embeddings, trials), trials, embeddings, seconds, condition)
        yield group.shift, figures(llrs, trials.target)


def cllr_of(verifier: Verifier, basis: Basis) -> float:
    """Cllr of the whole recordings that a calibration learned from."""
    whole = basis.take(basis.whole)
    trials = all_trials(whole)
    scores = verifier.score(whole.embeddings, trials)
    llrs = verifier.trial_llrs(scores, trials, whole.embeddings, whole.duration_s, whole.condition)
    return ROC.from_scores(*trials.split(llrs)).cllr()


def mean_of(rows: list[Row]) -> Row:
    return {key: float(np.mean([float(row[key]) for row in rows])) for key in rows[0]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("systems", nargs="+", help="system directories, or starter")
    options.add_argument("--data", type=Path, required=True, help="folder with the corpora")
    options.add_argument("--work", type=Path, default=Path("exp/left-out"), help="where lists and embeddings are kept")
    options.add_argument("--backends", nargs="+", default=BACKENDS)
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    write_lists(arguments.data, arguments.work)
    found: list[Row] = []
    header = "".join(f"{name:>14}" for name in ("EER", "Cllr", "at best", "answered", "wrong: same", "different"))
    print(f"{'':<22}{'back-end':<17}{'ingredients':<14}{'':<12}{header}{'calibration set':>17}")
    for system in arguments.systems:
        encoder = SpeakerEncoder.from_pretrained(system)
        basis, shifted = (
            crops(encoder, arguments.work / "measured.csv"),
            heard(encoder, arguments.work / "measured.csv")[1],
        )
        fitted = crops(encoder, arguments.work / "fitted.csv")
        assert basis.domain is not None
        assert shifted.basis.domain is not None
        for backend in arguments.backends:
            for name, ingredients in INGREDIENTS.items():
                plain, unlike, own = [], [], []
                for corpus in CORPORA:
                    others = basis.take(basis.domain != corpus)
                    copies = shifted.take(shifted.basis.domain != corpus)
                    verifier = learn(backend, others, copies, fitted, ingredients)
                    own.append(cllr_of(verifier, others))
                    left_out = basis.take((basis.domain == corpus) & basis.whole)
                    for shift, row in measure(verifier, left_out, shifted.take(shifted.basis.domain == corpus)):
                        (plain if shift == AS_RECORDED else unlike).append(row)
                for kind, rows in ((AS_RECORDED, plain), ("shifted", unlike)):
                    row = mean_of(rows)
                    line = "".join(
                        f"{row[key]:>14{'.2f' if 'cllr' in key else '.1%'}}"
                        for key in ("eer", "cllr", "min_cllr", "answered", "wrong_same", "wrong_different")
                    )
                    print(f"{system[-20:]:<22}{backend:<17}{name:<14}{kind:<12}{line}{np.mean(own):>17.3f}", flush=True)
                    found.append({"system": system, "backend": backend, "ingredients": name, "trials": kind, **row})
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
