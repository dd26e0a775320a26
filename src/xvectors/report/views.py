"""Prepare the tables of the page: plain values for the templates, which escape them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from xvectors.evaluation.measures import Interval
from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.shift import MIN_PROBABILITY, Answers, ConditionShift
from xvectors.evaluation.verdict import ErrorRate
from xvectors.report.formats import (
    MAX_NAME,
    NBSP,
    amount,
    between,
    confidence_level,
    error_rate,
    minus,
    percent,
    score,
    seconds,
    shortened,
)
from xvectors.report.recordings import GENDER_WORDS, Recordings
from xvectors.report.slice_view import Cell
from xvectors.text import agree, count

MAX_NAMES = 20
MAX_SHARED = 50  # recordings that were trained on
MAX_SETTING = 200  # characters

MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("eer", "eer", "error rate at the threshold where both kinds of error are equally frequent"),
    ("rocch_eer", "eer", "the same on the ROC’s convex hull"),
    ("min_dcf", "dcf", "cost of errors at the best threshold"),
    ("actual_dcf", "dcf", "cost of errors at the threshold that the LLRs call best"),
    ("min_cllr", "cllr", "what the best calibration would leave"),
    ("cllr", "cllr", "cost of the LLRs as they are"),
    ("calibration_loss", "cllr", "Cllr less minCllr"),
    ("auc", "auc", "probability that a target trial scores above a non-target trial"),
    ("frr", "frr", "at the threshold in use"),
    ("far", "far", "at the threshold in use"),
    ("tpr_at_fpr_", "tpr", "target trials that are accepted at this rate of false acceptances"),
    ("rank_", "rank", ""),
)
"""By the beginning of a measure's key: the term of the glossary, and a short explanation."""


def view_cards(e: Evaluation) -> list[dict[str, str]]:
    """Return the four figures at the top: both error rates, the EER, and how often the right person is found."""

    def card(
        title: str, value: str, before: str = "", term: str = "", term_text: str = "", after: str = ""
    ) -> dict[str, str]:
        return {"title": title, "value": value, "before": before, "term": term, "term_text": term_text, "after": after}

    def rate_card(title: str, rate: ErrorRate, term: str, term_text: str) -> dict[str, str]:
        counts = f"{rate.num_errors:,} of {rate.num_trials:,}"
        if rate.low is None:
            return card(title, counts, "pairs; ", term, term_text)
        before = f"{between(rate.low, rate.high, 'share')}; "
        return card(title, percent(rate.value), before, term, term_text, f", {counts} pairs")

    eer, rank = e.measures["eer"], e.measures.get("rank_1")
    ends = "" if eer.interval is None else f"{between(eer.interval.low, eer.interval.high, 'share')}; "
    num_speakers = len(e.manifest.speakers)
    cards = [
        rate_card("Two people taken for one", e.verdict.false_accepts, "far", "false acceptances"),
        rate_card("One person missed", e.verdict.misses, "frr", "false rejections"),
        card("Error rate when both are equal", percent(eer.value), ends, "eer", "EER", ", to compare systems by"),
    ]
    if rank is None:
        return [*cards, card("People measured", f"{num_speakers:,}", f"{len(e.manifest):,} recordings")]
    title, before = "The right person found first", f"among {num_speakers:,} people; "
    return [*cards, card(title, percent(rank.value), before, "rank", "closed-set identification")]


def view_measures(e: Evaluation) -> dict[str, Any]:
    """Return every measure with its explanation and interval."""
    errors = {
        "frr": (e.mistakes.num_misses, e.trials.num_target),
        "far": (e.mistakes.num_false_accepts, e.trials.num_nontarget),
    }
    rows = []
    for key, measure in e.measures.items():
        term, meaning = next((term, text) for begin, term, text in MEANINGS if key.startswith(begin))
        ends = measure.interval
        rows.append(
            {
                "term": term,
                "name": measure.name,
                "notes": [note for note in (meaning, measure.note) if note and note not in e.warnings],
                "value": error_rate(*errors[key]) if key in errors else amount(measure.value, measure.unit),
                "interval": "–" if ends is None else between(ends.low, ends.high, measure.unit),
            }
        )
    return {"rows": rows, "level": _level(one.interval for one in e.measures.values())}


def view_points(e: Evaluation) -> dict[str, Any]:
    """Return the threshold in use and the named ones, labeled as in the DET plot."""
    mistakes, calibrated = e.mistakes, e.is_calibrated
    rows = [
        {
            "label": "D",
            "name": "in use",
            "note": e.threshold_source,
            "misses": _errors(mistakes.num_misses, e.trials.num_target, mistakes.num_miss_speakers),
            "accepts": _errors(mistakes.num_false_accepts, e.trials.num_nontarget, mistakes.num_false_accept_speakers),
            "threshold": score(e.threshold, calibrated),
            "interval": "–",
        }
    ]
    for number, point in enumerate(e.operating_points, start=1):
        ends = point.threshold_interval
        rows.append(
            {
                "label": str(number),
                "name": point.name,
                "note": point.note,
                "misses": _errors(point.num_misses, point.num_target, point.num_miss_speakers),
                "accepts": _errors(point.num_false_accepts, point.num_nontarget, point.num_false_accept_speakers),
                "threshold": "–" if point.threshold is None else score(point.threshold, calibrated),
                "interval": "–"
                if ends is None
                else " to ".join(score(end, calibrated) for end in (ends.low, ends.high)),
            }
        )
    return {"rows": rows, "level": _level(point.threshold_interval for point in e.operating_points)}


def _level(intervals: Iterable[Interval | None]) -> str:
    return next((confidence_level(one.confidence) for one in intervals if one is not None), "")


def _errors(errors: int | None, trials: int, speakers: int | None) -> Cell:
    """Return a rate with the errors, trials and speakers it rests on."""
    if errors is None:
        return Cell("–")
    if not errors:
        return Cell("none", f"of {trials:,}")
    of_speakers = "" if speakers is None else f"; {count(speakers, 'speaker')}"
    return Cell(percent(errors / trials), f"{errors:,} of {trials:,}{of_speakers}")


def view_shift(e: Evaluation) -> dict[str, Any] | None:
    """Return how far the recordings are from the calibration set, and the trials by degree of shift."""
    found = e.shift
    if found is None:
        return None
    rows = [
        {
            "name": (f"{one.low:g} to {one.high:g}" if math.isfinite(one.high) else f"{one.low:g} and more").replace(
                " ", NBSP
            ),
            "eer": "–" if one.eer is None else percent(one.eer),
            "cllr": Cell("–")
            if one.cllr is None or one.min_cllr is None
            else Cell(amount(one.cllr, "bits"), amount(one.min_cllr, "bits")),
            "answered": "–" if one.answered is None else percent(one.answered),
            "wrong_target": _wrong(one.target),
            "wrong_nontarget": _wrong(one.nontarget),
            "trials": f"{one.target.num_trials:,} / {one.nontarget.num_trials:,}",
        }
        for one in found.degrees
    ]
    return {
        "sentence": _alike(found),
        "unusual": [(words, count(number, "recording")) for words, number in found.unusual],
        "least": confidence_level(MIN_PROBABILITY),
        "rows": rows,
    }


def _alike(found: ConditionShift) -> str:
    """Say how many recordings are like those of the calibration set."""
    usual, shifted, untested = found.num_usual, found.num_shifted, found.num_untested
    text = f"{usual:,} of {count(found.num_known, 'recording')} ({percent(usual / found.num_known)})"
    text += f" {agree(usual, 'is', 'are')} like those that the system was calibrated on"
    if shifted:
        text += f", {shifted:,} ({percent(shifted / found.num_known)}) {agree(shifted, 'is', 'are')} not"
    text += "."
    if untested:
        text += f" {untested:,} of them {agree(untested, 'is', 'are')} beyond all that was tested; LLRs are 0 there."
    if found.num_unknown:
        unknown = count(found.num_unknown, "further recording")
        text += f" The condition of {unknown} is not known; their trials are not in the table."
    return text


def _wrong(answers: Answers) -> Cell:
    if answers.wrong is None:
        return Cell("–")
    if not answers.num_wrong:
        return Cell("none", f"of {answers.num_answers:,}")
    return Cell(percent(answers.wrong), f"{answers.num_wrong:,} of {answers.num_answers:,}")


def bounds_words(e: Evaluation) -> str:
    """Say between which LLRs all are, and what these mean; empty for a system without bounds."""
    if e.llr_bounds is None:
        return ""
    least, greatest = e.llr_bounds
    return (
        f"between {score(least, True)}, which is {math.exp(-least):,.0f} to 1 for two people, and "
        f"{score(greatest, True)}, which is {math.exp(greatest):,.0f} to 1 for one"
    )


def view_pairs(e: Evaluation, recordings: Recordings) -> list[dict[str, Any]]:
    """Return the pairs of speakers that are most alike, each with its most alike recordings."""
    names = e.manifest.speakers
    return [
        {
            "speakers": (names[pair.speaker_a], names[pair.speaker_b]),
            "accepted": f"{pair.num_accepted:,} of {pair.num_trials:,}",
            "mean": score(pair.mean_score, e.is_calibrated),
            "highest": score(float(e.decision_scores[pair.trial]), e.is_calibrated),
            "a": recordings.show(int(e.trials.enroll[pair.trial]), excerpt=False),
            "b": recordings.show(int(e.trials.test[pair.trial]), excerpt=False),
        }
        for pair in e.mistakes.confusable_pairs
    ]


def view_trials(e: Evaluation, trials: np.ndarray[Any, Any], recordings: Recordings) -> list[dict[str, Any]]:
    """Return trials with their scores and both recordings."""
    return [
        {
            "value": score(float(e.decision_scores[trial]), e.is_calibrated),
            "a": recordings.show(int(e.trials.enroll[trial])),
            "b": recordings.show(int(e.trials.test[trial])),
        }
        for trial in trials.tolist()
    ]


def view_data(e: Evaluation) -> list[tuple[str, str]]:
    """Return what the corpus and the trials consist of."""
    manifest, trials = e.manifest, e.trials
    gender = np.full(len(manifest.speakers), -1)
    gender[manifest.speaker_index] = manifest.gender
    genders = [f"{np.count_nonzero(gender == code):,} {word}" for code, word in GENDER_WORDS.items()]
    if unknown := np.count_nonzero(~np.isin(gender, list(GENDER_WORDS))):
        genders.append(f"{unknown:,} unknown")
    each = np.bincount(manifest.speaker_index)
    low, high = int(each.min()), int(each.max())
    number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    known, ages, snrs = (values[~np.isnan(values)] for values in (e.duration_s, manifest.age, e.snr_db))
    speech = f"{seconds(float(known.sum()))}; {_spread(known, 's')}" if len(known) else "durations unknown"
    return [
        ("corpus", e.data),
        ("speakers", f"{len(manifest.speakers):,} ({', '.join(genders)})"),
        ("recordings", f"{len(manifest):,}, {number} of each speaker"),
        ("speech", speech),
        ("age", _spread(ages, "years") if len(ages) else "unknown"),
        ("SNR, estimated", _spread(snrs, "dB") if len(snrs) else "not estimated"),
        ("sessions", f"{len(manifest.sessions):,}" if manifest.sessions else "unknown"),
        (
            "trials",
            f"{len(trials):,}: {trials.num_target:,} target, {trials.num_nontarget:,} non-target ({e.trials_source})",
        ),
    ]


def _spread(values: np.ndarray[Any, Any], unit: str) -> str:
    low, middle, high = (float(v) for v in (values.min(), np.median(values), values.max()))
    return minus(f"{low:.3g} to {high:.3g} {unit}, median {middle:.3g} {unit}")


def view_leakage(e: Evaluation, recordings: Recordings) -> dict[str, Any]:
    """Return what training and test share, and the doubtful labels."""
    found = e.leakage
    lines = []
    if not found.checked:
        lines.append(
            "Whether test speakers or recordings were trained on is not known: the training corpus is not available."
        )
    elif not found.shared_speakers and not found.shared_recordings:
        lines.append("No test speaker’s name and no test recording was trained on.")
    for what, names in (
        ("Test speakers that were trained on", found.shared_speakers),
        ("Test speakers that the calibration or the back-end learned from", found.calibration_speakers),
    ):
        if names:
            more = ", …" if len(names) > MAX_NAMES else ""
            listed = ", ".join(shortened(name, MAX_NAME) for name in names[:MAX_NAMES])
            lines.append(f"{what}: {len(names):,} ({listed}{more})")
    if found.shared_recordings:
        lines.append(f"Test recordings that were trained on: {len(found.shared_recordings):,}")
    return {
        "lines": lines,
        "shared": [
            {"recording": recordings.show(one.row, excerpt=False), "train_path": one.train_path, "by": one.by}
            for one in found.shared_recordings[:MAX_SHARED]
        ],
        "suspects": [
            {"value": f"{one.cosine:.3f}", "a": recordings.show(one.a), "b": recordings.show(one.b)}
            for one in found.suspect_pairs
        ],
        "two_voices": [
            {
                "speaker": one.speaker,
                "groups": [{"number": len(rows), "example": recordings.show(int(rows[0]))} for rows in one.rows],
            }
            for one in found.two_voices
        ],
    }


def view_making(e: Evaluation) -> list[tuple[str, str]]:
    """Return how the system and this evaluation were made."""
    training = [
        (f"training: {name.replace('_', ' ')}", f"{value:.3g}" if isinstance(value, float) else str(value))
        for name, value in e.training.items()
        if value is not None
    ]
    state = "calibrated" if e.is_calibrated else "not calibrated"
    return [
        ("system", f"{e.system}, back-end {e.backend}, {state}"),
        ("started", e.started),
        ("times", ", ".join(f"{step} {seconds(float(took))}" for step, took in e.timings_s.items()) or "unknown"),
        ("versions", _versions(e.versions)),
        ("trained with", _versions(e.trained_with) or "unknown"),
        ("training seed", str(e.recipe.get("training", {}).get("seed", "unknown"))),
        *training,
    ]


def view_settings(e: Evaluation) -> list[tuple[str, list[str]]]:
    """Return the settings of recipe, back-end and calibration, a line each."""
    tables = (
        ("Recipe", e.recipe),
        ("Back-end", e.backend_settings),
        ("Calibration", e.calibration_settings),
    )
    return [(title, list(_flat(table))) for title, table in tables]


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = str(value)
            yield f"{prefix}{name} = {text if len(text) <= MAX_SETTING else text[:MAX_SETTING] + ' …'}"
