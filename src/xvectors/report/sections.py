"""The parts of the page that are text and tables. In: an evaluation and its slices. Out: markup, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xvectors.corpus.manifest import FEMALE, MALE
from xvectors.evaluation.measures import COVERAGE, MIN_SPEAKERS, Measure
from xvectors.evaluation.result import Evaluation
from xvectors.report.glossary import term
from xvectors.report.markup import (
    MOST_OF_NAME,
    amount,
    bullets,
    escaped,
    interval,
    named,
    pairs,
    percent,
    score,
    seconds,
    share_of,
    shortened,
    table,
)
from xvectors.report.recordings import Recordings
from xvectors.text import count, first_few

MAX_NAMES = 20
PAIRS = 5  # of speakers that are shown at once; the others by a click
MAX_RECORDINGS = 50
MAX_VALUE = 200  # characters of a setting


MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("eer", "eer", "error rate where both kinds of error are equally frequent"),
    ("rocch_eer", "eer", "the same on the ROC’s convex hull"),
    ("min_dcf", "dcf", "cost of errors at the best threshold"),
    ("actual_dcf", "dcf", "cost of errors at the threshold that the LLRs call best"),
    ("min_cllr", "cllr", "what the best calibration would leave"),
    ("cllr", "cllr", "cost of the LLRs as they are"),
    ("calibration_loss", "cllr", "Cllr less minCllr"),
    ("auc", "auc", "chance that a target trial scores above a non-target trial"),
    ("frr", "frr", "at the threshold in use"),
    ("far", "far", "at the threshold in use"),
    ("tpr_at_fpr_", "tpr", "target trials that are accepted at so few false acceptances"),
    ("rank_", "rank", ""),
)
"""By the beginning of a figure's key: the term that explains it, and what it is in a few words."""


def headline(measured: Evaluation) -> str:
    """Every figure, what it is below its name."""
    errors = {"frr": measured.mistakes.num_misses, "far": measured.mistakes.num_false_accepts}
    trials = {"frr": measured.trials.num_target, "far": measured.trials.num_nontarget}
    rows = [
        (
            _measure_cell(key, one, measured.warnings),
            share_of(errors[key], trials[key]) if key in errors else amount(one.value, one.unit),
            interval(one.interval, one.unit),
        )
        for key, one in measured.measures.items()
    ]
    found = next((one.interval for one in measured.measures.values() if one.interval is not None), None)
    level = f"{_level(found.confidence)} interval" if found is not None else "interval"
    how = (
        f"<p class=muted>Intervals are over speakers. {COVERAGE}</p>"
        if found is not None
        else f"<p class=muted>There are no intervals: they need at least {MIN_SPEAKERS} speakers.</p>"
    )
    return table(("measure", "value", term("interval", level)), rows, kind="measures", numbers=(1, 2)) + how


def _measure_cell(key: str, figure: Measure, said: tuple[str, ...]) -> str:
    """The figure's name, and below it what it is; notes that are `said` of all figures are left out."""
    of_term, meaning = next((of_term, text) for begin, of_term, text in MEANINGS if key.startswith(begin))
    notes = [note for note in (meaning, figure.note) if note and note not in said]
    below = f"<small>{escaped('; '.join(notes))}</small>" if notes else ""
    return term(of_term, figure.name) + below


def operating(measured: Evaluation) -> str:
    """The threshold in use and the named ones, numbered as in the DET plot."""
    wrong = measured.mistakes
    in_use = (
        (wrong.num_misses, measured.trials.num_target, wrong.num_miss_speakers),
        (wrong.num_false_accepts, measured.trials.num_nontarget, wrong.num_false_accept_speakers),
    )
    rows = [
        (
            f"<b>D</b> in use<small>{escaped(measured.threshold_source)}</small>",
            *(_errors(*side) for side in in_use),
            score(measured.threshold, measured.is_calibrated),
            "–",
        )
    ]
    for at, point in enumerate(measured.operating_points, start=1):
        found = point.threshold_interval
        ends = (
            "–" if found is None else " to ".join(score(end, measured.is_calibrated) for end in (found.low, found.high))
        )
        rows.append(
            (
                f"<b>{at}</b> {escaped(point.name)}" + (f"<small>{escaped(point.note)}</small>" if point.note else ""),
                _errors(point.num_misses, point.num_target, point.num_miss_speakers),
                _errors(point.num_false_accepts, point.num_nontarget, point.num_false_accept_speakers),
                "–" if point.threshold is None else score(point.threshold, measured.is_calibrated),
                ends,
            )
        )
    found_ends = (point.threshold_interval for point in measured.operating_points)
    level = next((f"{_level(found.confidence)} interval" for found in found_ends if found is not None), "interval")
    scale = term("llr", "LLR") if measured.is_calibrated else term("score", "score")
    misses, accepts = term("frr", "false rejections"), term("far", "false acceptances")
    head = (term("point", "operating point"), misses, accepts, f"threshold ({scale})", f"its {level}")
    return table(head, rows, kind="points", numbers=(1, 2, 3, 4))


def _errors(errors: int | None, trials: int, speakers: int | None) -> str:
    """A rate, and the errors and trials that it rests on."""
    if errors is None:
        return "–"
    if not errors:
        return f"none<small>of {trials:,}</small>"
    of_speakers = "" if speakers is None else f"; {count(speakers, 'speaker')}"
    return f"{percent(errors / trials)}<small>{errors:,} of {trials:,}{of_speakers}</small>"


def pair_table(measured: Evaluation, recordings: Recordings) -> str:
    names = measured.manifest.speakers
    rows = [
        (
            f"{named(names[pair.speaker_a])}<br>{named(names[pair.speaker_b])}",
            f"{pair.num_accepted:,} of {pair.num_trials:,}",
            score(pair.mean_score, measured.is_calibrated),
            score(float(measured.decision_scores[pair.trial]), measured.is_calibrated),
            f"{recordings.link(int(measured.trials.enroll[pair.trial]))}<br>"
            f"{recordings.link(int(measured.trials.test[pair.trial]))}",
        )
        for pair in measured.mistakes.confusable_pairs
    ]
    scale = "LLR" if measured.is_calibrated else "score"
    head = ("speakers", "taken for one", f"mean {scale}", f"highest {scale}", "its two recordings")
    first, rest = (table(head, part, kind="pairs", numbers=(1, 2, 3)) for part in (rows[:PAIRS], rows[PAIRS:]))
    more = count(len(rows) - PAIRS, "more pair")
    return first if len(rows) <= PAIRS else f"{first}<details><summary>{more}</summary>{rest}</details>"


def trial_tables(measured: Evaluation, recordings: Recordings) -> str:
    scale = "LLR" if measured.is_calibrated else "score"

    def shown(row: int) -> str:
        return score(float(measured.decision_scores[row]), measured.is_calibrated)

    parts = []
    for title, rows, none in (
        ("Two people taken for one", measured.mistakes.worst_false_accepts, "No two people are taken for one."),
        ("One person missed", measured.mistakes.worst_misses, "No one is missed."),
    ):
        cells = [
            (
                f"<span class=phone>{scale} </span>{shown(row)}",
                recordings.describe(int(measured.trials.enroll[row])),
                recordings.describe(int(measured.trials.test[row])),
            )
            for row in rows.tolist()
        ]
        parts.append(f"<h4>{title}</h4>")
        parts.append(table((scale, "recording", "and"), cells, kind="trials") if cells else f"<p>{none}</p>")
    return "".join(parts)


def data_facts(measured: Evaluation) -> str:
    manifest, trials = measured.manifest, measured.trials
    known = measured.duration_s[~np.isnan(measured.duration_s)]
    gender = np.full(len(manifest.speakers), -1)
    gender[manifest.speaker_index] = manifest.gender
    parts = [f"{np.count_nonzero(gender == code):,} {word}" for code, word in ((FEMALE, "female"), (MALE, "male"))]
    unknown = int(np.count_nonzero((gender != FEMALE) & (gender != MALE)))
    genders = ", ".join([*parts, *([f"{unknown:,} unknown"] if unknown else [])])
    each = np.bincount(manifest.speaker_index)
    rows = [
        ("corpus", escaped(measured.data)),
        ("speakers", f"{len(manifest.speakers):,} ({genders})"),
        ("recordings", f"{len(manifest):,}, {_range(each)} of each speaker"),
        ("speech", _spread(known, "s", seconds(float(known.sum()))) if len(known) else "durations unknown"),
    ]
    ages, snrs = manifest.age[~np.isnan(manifest.age)], measured.snr_db[~np.isnan(measured.snr_db)]
    rows.append(("age", _spread(ages, "years") if len(ages) else "unknown"))
    rows.append(("SNR, estimated", _spread(snrs, "dB") if len(snrs) else "not estimated"))
    rows.append(("sessions", f"{len(manifest.sessions):,}" if manifest.sessions else "unknown"))
    rows.append(
        (
            "trials",
            f"{len(trials):,}: {trials.num_target:,} target, {trials.num_nontarget:,} non-target "
            f"({escaped(measured.trials_source)})",
        )
    )
    out = [pairs(rows)]
    if measured.trial_findings:
        out.append(f"<h4>About the trial list</h4>{bullets(measured.trial_findings)}")
    left = measured.left_out
    if left:
        out.append(f"<h4>Left out: {count(len(left), 'recording')}</h4>{bullets(left)}")
    elif measured.left_out_known:
        out.append("<p>Nothing was left out.</p>")
    if not measured.left_out_known:
        out.append("<p>Which recordings training left out is not known.</p>")
    return "".join(out)


def _range(numbers: np.ndarray[Any, Any]) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _spread(values: np.ndarray[Any, Any], unit: str, total: str = "") -> str:
    low, middle, high = (float(v) for v in (values.min(), np.median(values), values.max()))
    first = f"{total}; " if total else ""
    spread = f"{low:.3g} to {high:.3g} {unit}, median {middle:.3g} {unit}"
    return first + spread.replace("-", "\N{MINUS SIGN}")


def leakage(measured: Evaluation, recordings: Recordings) -> str:
    found = measured.leakage
    lines = []
    if not found.checked:
        lines.append(
            "Whether test speakers or recordings were trained on is not known: the training corpus is not at hand."
        )
    elif not found.shared_speakers and not found.shared_recordings:
        lines.append("No test speaker's name and no test recording was trained on.")
    for what, names in (
        ("Test speakers that were trained on", found.shared_speakers),
        ("Test speakers that calibration or back-end learned from", found.calibration_speakers),
    ):
        if names:
            some = first_few((shortened(name, MOST_OF_NAME) for name in names), MAX_NAMES)
            lines.append(f"{what}: {len(names):,} ({some})")
    if found.shared_recordings:
        lines.append(f"Test recordings that were trained on: {len(found.shared_recordings):,}")
    parts = [bullets(lines)]
    if found.shared_recordings:
        rows = [
            (recordings.link(one.row), escaped(one.train_path), escaped(one.by))
            for one in found.shared_recordings[:MAX_RECORDINGS]
        ]
        parts.append(table(("test recording", "is the training recording", "the same by"), rows))
    compared = ""
    if found.num_compared < len(measured.manifest):
        compared = f" {found.num_compared:,} of the {len(measured.manifest):,} recordings were compared."
    if found.suspect_pairs:
        rows = [
            (
                f"<span class=phone>cosine </span>{one.cosine:.3f}",
                recordings.describe(one.a),
                recordings.describe(one.b),
            )
            for one in found.suspect_pairs
        ]
        shown = "" if len(rows) == found.num_suspect_pairs else f", the nearest {len(rows)}"
        parts.append(
            f"<h4>{count(found.num_suspect_pairs, 'pair')} of two speakers’ recordings that sound alike{shown}</h4>"
            "<p>Their embeddings are nearer to each other than those of 99 % of the pairs of one speaker. Some pairs "
            f"of different people are that near. Listen: a label may be wrong.{compared}</p>"
            + table(("cosine", "recording", "and"), rows, kind="trials")
        )
    else:
        parts.append(
            "<p>No recordings of two speakers are nearer to each other than 99 % of the pairs of one speaker's "
            f"recordings are.{compared}</p>"
        )
    if found.two_voices:
        groups = [
            (named(one.speaker), *(f"{len(of)}, such as {recordings.describe(int(of[0]))}" for of in one.rows))
            for one in found.two_voices
        ]
        parts.append(
            f"<h4>{count(len(groups), 'name')} under which two people seem to speak</h4>"
            "<p>The recordings fall into two groups, each as alike as one speaker's, and to each other about as unlike "
            "as two speakers'. Two devices or rooms can look so, too. Listen: if they are two people, many of the "
            "false rejections are none.</p>" + table(("speaker", "recordings", "and"), groups, kind="trials")
        )
    return "".join(parts)


def making(measured: Evaluation) -> str:
    training = [
        (name.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else escaped(value))
        for name, value in measured.training.items()
    ]
    seed = measured.recipe.get("training", {}).get("seed", "unknown")
    steps = ", ".join(f"{escaped(step)} {seconds(float(took))}" for step, took in measured.timings_s.items())
    rows = [
        ("command", f"<code>{escaped(measured.command)}</code>"),
        (
            "system",
            f"{escaped(measured.system)}, back-end {escaped(measured.backend)}, "
            f"{'calibrated' if measured.is_calibrated else 'not calibrated'}",
        ),
        ("begun", escaped(measured.started)),
        ("times", steps or "unknown"),
        ("versions", _versions(measured.versions)),
        ("trained with", _versions(measured.trained_with) or "unknown"),
        ("training seed", escaped(seed)),
        *((f"training: {name}", value) for name, value in training),
    ]
    out = [pairs(rows)]
    for title, settings in (
        ("Recipe", measured.recipe),
        ("Back-end", measured.backend_settings),
        ("Calibration", measured.calibration_settings),
    ):
        lines = list(_flat(settings))
        if lines:
            out.append(f"<details><summary>{title}</summary><pre>{escaped(chr(10).join(lines))}</pre></details>")
    return "".join(out)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{escaped(name)} {escaped(version)}" for name, version in versions.items())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = str(value)
            yield f"{prefix}{name} = {text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + ' …'}"


def _level(confidence: float) -> str:
    return f"{100 * confidence:g}\N{NO-BREAK SPACE}%"
