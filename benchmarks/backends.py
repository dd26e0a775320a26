"""What each back-end does on speakers that nothing was fitted on: all that `xvectors calibrate` chooses among.

    python benchmarks/backends.py SYSTEM [SYSTEM ...] [--json FILE]

SYSTEM is a system directory with its corpus. Back-ends are fitted on recordings of its training speakers, as
`xvectors calibrate` fits them, and score all pairs of its test speakers' recordings, up to 60 recordings a
speaker and 3,000 in all. EER, minDCF(0.01) and Cllr after the best monotone map, in bits, each with its 95 % interval
over draws of the speakers; then its difference to plain cosine on the same draws, with interval and p-value. Test
speakers choose nothing: which back-end a system has is decided on the speakers held out from training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from _timing import Row, write_json
from xvectors import SpeakerEncoder
from xvectors.backends import Backend, make_backend
from xvectors.corpus import TEST, Manifest
from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.evaluation.measures import MAX_DRAWS, MIN_DRAWS, WORK
from xvectors.metrics import ROC, ScoredTrials, compare_systems, speaker_intervals
from xvectors.system import SystemFolder
from xvectors.training.calibrate import training_embeddings
from xvectors.trials import all_pairs, sample_recordings
from xvectors.verification.learning import CANDIDATES, COSINE

P_TARGET = 0.01
EACH, AT_MOST = 60, 3000  # recordings: 4.5 million trials
MEASURES: Mapping[str, Callable[[ROC], float]] = {
    "eer": lambda roc: roc.eer().eer,
    "min_cllr": lambda roc: roc.min_cllr(),
    "min_dcf": lambda roc: roc.min_dcf(P_TARGET).min_dcf,
}


def fit_all(embeddings: ArrayLike, speakers: ArrayLike) -> tuple[dict[str, Backend], dict[str, str]]:
    """Every candidate fitted on embeddings [n, D] of training speakers [n]; and of those that cannot be, why not."""
    fitted, left_out = {}, {}
    for name in CANDIDATES:
        try:
            fitted[name] = make_backend(name).fit(embeddings, speakers)
        except (ConfigError, ManifestError, ShapeError) as error:
            left_out[name] = str(error)
    return fitted, left_out


def measure(
    fitted: Mapping[str, Backend], embeddings: ArrayLike, speakers: ArrayLike, draws: int | None = None, seed: int = 0
) -> list[Row]:
    """A row for each back-end on all pairs of embeddings [n, D] of other speakers [n]; cosine is the one to beat."""
    trials = all_pairs(speakers)
    numbers = np.unique(np.asarray(speakers), return_inverse=True)[1]
    resample = ScoredTrials.of(trials.target, numbers[trials.enroll], numbers[trials.test])
    draws = draws or int(np.clip(WORK // (2 * len(trials)), MIN_DRAWS, MAX_DRAWS))
    scores = {name: backend.score(embeddings, trials) for name, backend in fitted.items()}
    rows: list[Row] = []
    for name, own in scores.items():
        row: Row = {"backend": name, "num_speakers": resample.num_speakers, "num_trials": len(trials), "draws": draws}
        for key, found in speaker_intervals(own, resample, MEASURES, num_draws=draws, seed=seed).items():
            row |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
        if name != COSINE:
            compared = compare_systems(scores[COSINE], own, resample, MEASURES, num_draws=draws, seed=seed)
            for key, found in compared.items():
                gained = found.difference
                row |= {f"{key}_difference": gained.value, f"{key}_p_value": found.p_value}
                row |= {f"{key}_difference_low": gained.low, f"{key}_difference_high": gained.high}
        rows.append(row)
    return rows


def lines(row: Row) -> list[str]:
    """A line for each measure of a row."""
    found = []
    for key, title in (("eer", "EER"), ("min_cllr", "Cllr at best"), ("min_dcf", f"minDCF({P_TARGET:g})")):
        form = ".2%" if key == "eer" else ".3f"
        line = f"{row['backend']:<16} {title:<13} {row[key]:>7{form}}"
        line += f"  {row[f'{key}_low']:>7{form}} to {row[f'{key}_high']:>7{form}}"
        if f"{key}_difference" in row:
            value, low, high = (row[f"{key}_difference{end}"] for end in ("", "_low", "_high"))
            line += f"  {value:>+8{form}}  {low:>+8{form}} to {high:>+8{form}}  {row[f'{key}_p_value']:>5.3f}"
        found.append(line)
    return found


def measure_backends(folder: Path, draws: int | None, seed: int) -> list[Row]:
    """The rows of a system directory's back-ends, printed as they come."""
    paths = SystemFolder(folder)
    encoder = SpeakerEncoder.from_pretrained(folder)
    training = training_embeddings(paths, encoder, seed=seed)
    if training is None:
        raise SystemExit(f"{folder}: the recordings of its training speakers are not at hand, to fit back-ends on")
    corpus = Manifest.read_csv(paths.corpus)
    tested = corpus.take(corpus.split == TEST)
    both = sorted(set(tested.speakers) & set(encoder.speakers))
    if both or not len(tested):
        raise SystemExit(f"{folder}: " + (f"test speakers were trained on: {both[:3]}" if both else "no test speakers"))
    some = tested.take(sample_recordings(tested.speaker_index, each=EACH, at_most=AT_MOST, seed=seed))
    embedded = encoder.encode_manifest(some)
    assert not embedded.failures, f"every back-end has the same trials, but this failed: {embedded.failures[:3]}"
    fitted, left_out = fit_all(*training)
    rows = measure(fitted, embedded.embeddings, np.array(some.speakers)[some.speaker_index], draws, seed)
    trained_on = len(np.unique(training[1]))
    print(
        f"{folder}: fitted on {len(training[1]):,} recordings of {trained_on} speakers, measured on "
        f"{rows[0]['num_trials']:,} trials of {rows[0]['num_speakers']} others"
    )
    print(f"{'back-end':<16} {'':<13} {'':>7}  {'95 % interval':<18}  {'to cosine':>8}  {'95 % interval':<20}  p")
    for row in rows:
        print("\n".join(lines(row)), flush=True)
    for name, reason in left_out.items():
        print(f"{name:<16} left out: {reason}")
    return [{"system": str(folder), "num_training_speakers": trained_on, **row} for row in rows]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("systems", nargs="+", type=Path, metavar="SYSTEM")
    options.add_argument("--draws", type=int, help="of speakers (default: 1000, fewer for millions of trials)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    rows: list[Row] = []
    for folder in arguments.systems:
        rows += measure_backends(folder, arguments.draws, arguments.seed)
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
