"""The parts of the page that are text and tables. In: an evaluation and its slices. Out: markup, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xvectors.corpus.manifest import FEMALE, MALE
from xvectors.report.drawings import interval_strip, strip_top
from xvectors.report.markup import (
    amount,
    between,
    bullets,
    count,
    escaped,
    interval,
    pairs,
    percent,
    score,
    seconds,
    share_of,
    table,
)
from xvectors.report.measured import Measured
from xvectors.report.mistakes import confusable_pairs, error_speakers, worst_false_accepts, worst_false_rejects
from xvectors.report.recordings import Recordings
from xvectors.report.slices import Slice, SliceFigure, Slices
from xvectors.scoring.bootstrap import COVERAGE

MAX_NAMES = 20
MAX_RECORDINGS = 50
MAX_VALUE = 200  # characters of a setting


def lead(measured: Measured) -> str:
    """The finding in two sentences."""
    eer = measured.figures["eer"]
    sure = ""
    if eer.interval is not None:
        sure = f" ({_level(eer.interval.confidence)} interval {between(eer.interval.low, eer.interval.high, 'share')})"
    elif eer.value == 0:
        sure = " (one threshold parts these trials without an error; with other speakers it may not)"
    misses, accepts = measured.errors_at(measured.threshold)
    trials = measured.trials
    return (
        f"Equal error rate <b>{percent(eer.value)}</b>{sure}, on {count(len(measured.manifest.speakers), 'speaker')}, "
        f"{count(len(measured.manifest), 'recording')} and {count(len(measured.trials), 'trial')} of "
        f"{escaped(measured.data)}. At the threshold in use, {_share_of_all(misses, trials.num_target)} target trials "
        f"are rejected and {_share_of_all(accepts, trials.num_nontarget)} non-target trials accepted."
    )


def _share_of_all(errors: int, trials: int) -> str:
    return f"{percent(errors / trials)} of the" if errors else f"none of the {trials:,}"


def headline(measured: Measured) -> str:
    errors = dict(zip(("frr", "far"), measured.errors_at(measured.threshold), strict=True))
    trials = {"frr": measured.trials.num_target, "far": measured.trials.num_nontarget}
    rows = [
        (
            escaped(one.name),
            share_of(errors[key], trials[key]) if key in errors else amount(one.value, one.unit),
            interval(one.interval, one.unit),
            escaped(one.note),
        )
        for key, one in measured.figures.items()
    ]
    found = next((one.interval for one in measured.figures.values() if one.interval is not None), None)
    level = f"{_level(found.confidence)} interval" if found is not None else "interval"
    how = (
        "<p class=muted>Intervals say where a figure would lie with other speakers of the same kind: speakers are "
        f"resampled, because trials of one speaker agree with each other. With few speakers they are too narrow. "
        f"{COVERAGE}</p>"
        if found is not None
        else "<p class=muted>There are no intervals: they need at least 5 speakers.</p>"
    )
    if any(not row[3] for row in rows) and not any(row[3] for row in rows):
        return table(("measure", "value", level), [row[:3] for row in rows], numbers=(1, 2)) + how
    return table(("measure", "value", level, ""), rows, numbers=(1, 2)) + how


def operating(measured: Measured) -> str:
    """The threshold in use and the named ones, numbered as in the DET plot."""
    trials = measured.trials.num_target, measured.trials.num_nontarget
    in_use = zip(measured.errors_at(measured.threshold), trials, error_speakers(measured), strict=True)
    rows = [
        (
            "D",
            f"in use: {escaped(measured.threshold_source)}",
            score(measured.threshold, measured.is_calibrated),
            "–",
            *(_errors(*side) for side in in_use),
        )
    ]
    for at, point in enumerate(measured.operating_points, start=1):
        found = point.threshold_interval
        rows.append(
            (
                str(at),
                escaped(point.name) + (f"<br><span class=muted>{escaped(point.note)}</span>" if point.note else ""),
                "–" if point.threshold is None else score(point.threshold, measured.is_calibrated),
                "–"
                if found is None
                else " to ".join(score(end, measured.is_calibrated) for end in (found.low, found.high)),
                _errors(point.num_misses, point.num_target, point.num_miss_speakers),
                _errors(point.num_false_accepts, point.num_nontarget, point.num_false_accept_speakers),
            )
        )
    ends = (point.threshold_interval for point in measured.operating_points)
    level = next((f"{_level(found.confidence)} interval" for found in ends if found is not None), "interval")
    scale = "LLR, natural log" if measured.is_calibrated else "score"
    head = ("", "operating point", f"threshold ({scale})", f"its {level}", "false rejections", "false acceptances")
    return table(head, rows, numbers=(2, 3, 4, 5))


def _errors(errors: int | None, trials: int, speakers: int | None) -> str:
    """A rate, and the errors and trials that it rests on."""
    if errors is None:
        return "–"
    if not errors:
        return f"none<small>of {trials:,}</small>"
    of_speakers = "" if speakers is None else f"; {count(speakers, 'speaker')}"
    return f"{percent(errors / trials)}<small>{errors:,} of {trials:,}{of_speakers}</small>"


def slice_table(slices: Slices, *, calibrated: bool) -> str:
    """Every slice with numbers, the farthest from the whole first; below them those without, and why."""
    top = strip_top(slices)
    shown = [one for one in slices.slices if "eer" in one.figures]
    rest = [one for one in slices.slices if "eer" not in one.figures]
    measures = ["frr", "far", *(["actual_dcf"] if calibrated else [])]
    names = {"frr": "false rejections", "far": "false acceptances", "actual_dcf": "actual DCF"}
    head = ["slice", "speakers", "trials<br><small>target / non-target</small>", "EER"]
    head += [f"0 to {percent(top)}", "EER less the whole's, percentage points", *(names[key] for key in measures)]
    rows = [_slice_row(one, slices.whole, measures, top) for one in (slices.whole, *shown)]
    parts = [table(head, rows, kind="slices", numbers=(1, 2, 3, 5, 6, 7, 8))]
    if not shown:
        parts.append("<p>No slice has speakers and trials enough for an equal error rate.</p>")
    if rest:
        head = ["slice", "speakers", head[2], *(names[key] for key in measures), "why it has no EER"]
        lines = [(*_slice_begin(one), *(_rate(one, key) for key in measures), escaped(one.note)) for one in rest]
        parts.append("<h3>Too few for an equal error rate</h3>")
        parts.append(table(head, lines, kind="slices", numbers=range(1, 3 + len(measures))))
    return "".join(parts)


def _slice_row(one: Slice, whole: Slice, measures: list[str], top: float) -> tuple[str, ...]:
    eer = one.figures["eer"]
    strip = interval_strip(eer.value, eer.low, eer.high, whole.figures["eer"].value, top, eer.departs)
    return (
        *_slice_begin(one),
        _cell(eer, "share"),
        strip,
        "" if one is whole else _difference(eer),
        *(_rate(one, key) for key in measures),
    )


def _slice_begin(one: Slice) -> tuple[str, str, str]:
    """Name, speakers and trials; the whole has no dimension."""
    name = (
        f"{escaped(one.name)}<br><small>{escaped(one.dimension)}</small>"
        if one.dimension
        else f"<b>{escaped(one.name)}</b>"
    )
    numbers = f"{one.num_target:,} / {one.num_nontarget:,}"
    if one.kind != "both":
        numbers = (
            f"{one.num_target:,} / <span class=muted>all</span>"
            if one.kind == "targets"
            else f"<span class=muted>all</span> / {one.num_nontarget:,}"
        )
    return name, f"{one.num_speakers:,}", numbers


def _rate(one: Slice, key: str) -> str:
    figure = one.figures.get(key)
    if figure is None:
        return "–"
    if figure.value == 0 and key in ("frr", "far"):
        trials = one.num_target if key == "frr" else one.num_nontarget
        return _marked("0 %", figure.departs) + f"<small>0 of {trials:,}</small>"
    return _cell(figure, "cost" if key == "actual_dcf" else "share")


def _cell(figure: SliceFigure, unit: str) -> str:
    text = _marked(amount(figure.value, unit), figure.departs)
    if figure.low is None or figure.high is None:
        return text
    return f"{text}<small>{between(figure.low, figure.high, unit)}</small>"


def _difference(figure: SliceFigure) -> str:
    text = _marked(_points(figure.difference), figure.departs)
    if figure.difference_low is None or figure.difference_high is None:
        return text
    return f"{text}<small>{_points(figure.difference_low)} to {_points(figure.difference_high)}</small>"


def _points(share: float) -> str:
    """Percentage points, signed."""
    rounded = round(100 * share, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"


def _marked(text: str, departs: bool) -> str:
    return f'<span class="departs">◆ {text}</span>' if departs else text


def pair_table(measured: Measured, recordings: Recordings) -> str:
    names = measured.manifest.speakers
    rows = [
        (
            f"{escaped(names[pair.speaker_a])}<br>{escaped(names[pair.speaker_b])}",
            score(pair.mean_score, measured.is_calibrated),
            f"{pair.num_accepted:,} of {pair.num_trials:,}",
            score(float(measured.decisive[pair.trial]), measured.is_calibrated),
            f"{recordings.link(int(measured.trials.enroll[pair.trial]))}<br>"
            f"{recordings.link(int(measured.trials.test[pair.trial]))}",
        )
        for pair in confusable_pairs(measured)
    ]
    scale = "LLR" if measured.is_calibrated else "score"
    head = ("speakers", f"mean {scale}", "accepted trials", f"highest {scale}", "its two recordings")
    return table(head, rows, numbers=(1, 2, 3))


def trial_tables(measured: Measured, recordings: Recordings) -> str:
    scale = "LLR" if measured.is_calibrated else "score"
    parts = []
    for title, rows, none in (
        ("False accepts", worst_false_accepts(measured), "No non-target trial is accepted."),
        ("False rejects", worst_false_rejects(measured), "No target trial is rejected."),
    ):
        cells = [
            (
                score(float(measured.decisive[row]), measured.is_calibrated),
                recordings.describe(int(measured.trials.enroll[row])),
                recordings.describe(int(measured.trials.test[row])),
            )
            for row in rows.tolist()
        ]
        parts.append(f"<h3>{title}</h3>")
        parts.append(table((scale, "recording", "and"), cells, kind="trials") if cells else f"<p>{none}</p>")
    return "".join(parts)


def data_facts(measured: Measured) -> str:
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
        out.append(f"<h3>About the trial list</h3>{bullets(measured.trial_findings)}")
    left = measured.left_out
    if left:
        out.append(f"<h3>Left out: {count(len(left), 'recording')}</h3>{bullets(left)}")
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


def leakage(measured: Measured, recordings: Recordings) -> str:
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
        ("Test speakers that calibration or back-end learnt from", found.calibration_speakers),
    ):
        if names:
            more = ", …" if len(names) > MAX_NAMES else ""
            lines.append(f"{what}: {len(names):,} ({', '.join(names[:MAX_NAMES])}{more})")
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
            (f"{one.cosine:.3f}", recordings.describe(one.a), recordings.describe(one.b)) for one in found.suspect_pairs
        ]
        shown = "" if len(rows) == found.num_suspect_pairs else f", the nearest {len(rows)}"
        parts.append(
            f"<h3>{count(found.num_suspect_pairs, 'pair')} of two speakers' recordings that sound alike{shown}</h3>"
            "<p>They are nearer to each other than 99 % of the pairs of one speaker's recordings are. Some pairs of "
            f"different people are, too. Listen: a label may be wrong.{compared}</p>"
            + table(("cosine", "recording", "and"), rows, kind="trials")
        )
    else:
        parts.append(
            "<p>No recordings of two speakers are nearer to each other than 99 % of the pairs of one speaker's "
            f"recordings are.{compared}</p>"
        )
    if found.two_voices:
        groups = [
            (escaped(one.speaker), *(f"{len(of)}, such as {recordings.describe(int(of[0]))}" for of in one.rows))
            for one in found.two_voices
        ]
        parts.append(
            f"<h3>{count(len(groups), 'name')} under which two people seem to speak</h3>"
            "<p>The recordings fall into two groups, each as alike as one speaker's, and to each other about as unlike "
            "as two speakers'. Two devices or rooms can look so, too. Listen: if they are two people, many of the "
            "false rejections are none.</p>" + table(("speaker", "recordings", "and"), groups, kind="trials")
        )
    return "".join(parts)


def making(measured: Measured) -> str:
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
        ("Back-end", measured.backend_table),
        ("Calibration", measured.calibration_table),
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
