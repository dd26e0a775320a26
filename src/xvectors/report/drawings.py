"""The page's plots. In: an evaluation's arrays. Out: figures of inline SVG with their legends."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.slices import Slices
from xvectors.report import colors
from xvectors.report.labels import Box, free_place, moved
from xvectors.report.markup import score, shortened
from xvectors.report.svg import LETTER, LINE, Panel, Tick, legend, marker, nice_ticks
from xvectors.text import count

DET_TICKS = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
DET_FIRST = (0.01, 0.1, 0.001, 0.0001, 0.4, 0.05, 0.2, 0.8, 0.02, 0.005, 0.6, 0.95, 0.99, 0.002)
"""The same in the order in which labels get a place."""
DET_SIZE = 396.0, 382.0  # pixels inside the frame
DET_ROOM = 36.0, 15.0
"""Pixels that a label needs beside and above another."""
DET_ENDS = (0.8, 0.95, 0.99)  # the frame's, the least that holds every operating point
MIN_IN_BIN = 10  # trials, of the reliability plot


def figure(caption: str, *parts: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{"".join(parts)}<figcaption>{caption}</figcaption></figure>'


def scale_name(measured: Evaluation) -> str:
    return "LLR (natural log)" if measured.is_calibrated else f"score ({measured.backend})"


def det_plot(measured: Evaluation) -> str:
    """FRR against FAR on normal-deviate axes, the operating points numbered as in their table, D the decision's."""
    curve = measured.curves.det
    lowest = max(0.5 / curve.num_nontarget, 1e-5), max(0.5 / curve.num_target, 1e-5)
    low = ndtri(min(0.008, *lowest) if min(lowest) < 0.008 else 0.008)
    frr, far = measured.measures["frr"].value, measured.measures["far"].value
    points = [
        (str(at), point.far, point.frr)
        for at, point in enumerate(measured.operating_points, start=1)
        if point.far is not None and point.frr is not None
    ]
    points.append(("D", far, frr))
    most = max(max(rates) for _, *rates in points)
    end = next((end for end in DET_ENDS if end >= most), DET_ENDS[-1])
    shown = [rate for rate in DET_TICKS if ndtri(rate) >= low and rate <= end]
    limits = (float(low), float(ndtri(end)))
    x_ticks, y_ticks = (
        _det_ticks(shown, limits, pixels, room) for pixels, room in zip((396, 382), DET_ROOM, strict=True)
    )
    panel = Panel(
        title="Detection error trade-off",
        x_range=limits,
        y_range=limits,
        x_label="false acceptance rate",
        y_label="false rejection rate",
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        height=440,
        width=480,
        left=68,
    )
    panel.line(limits, limits, "faint")
    inside = (curve.probit_far >= low) & (curve.probit_frr >= low)
    inside &= (curve.probit_far <= limits[1]) & (curve.probit_frr <= limits[1])
    panel.line(curve.probit_far[inside], curve.probit_frr[inside], "target")
    placed: list[tuple[list[str], float, float]] = []
    for name, x_rate, y_rate in points:
        x, y = (float(np.clip(ndtri(rate), *limits)) for rate in (x_rate, y_rate))
        panel.dot(x, y, "decision" if name == "D" else "point", shape="D" if name == "D" else "o", radius=5)
        near = (one for one in placed if np.hypot(panel.x(one[1]) - panel.x(x), panel.y(one[2]) - panel.y(y)) < 16)
        if (one := next(near, None)) is not None:
            one[0].append(name)
        else:
            placed.append(([name], x, y))
    dots = np.array([(float(panel.x(x)), float(panel.y(y))) for _, x, y in placed])
    busy = np.vstack([dots, _along(panel.x(curve.probit_far[inside]), panel.y(curve.probit_frr[inside]))])
    taken: list[Box] = []
    for (names, _, _), (x, y) in zip(placed, dots.tolist(), strict=True):
        text = ", ".join(names)
        box = _box(x, y, text)
        shift = free_place(box, panel.frame, taken, busy, most_hidden=np.inf, room=5.0)
        taken.append(moved(box, shift or (0.0, 0.0)))
        panel.text(*_baseline(taken[-1]), text, "label", anchor="middle")
    keys = [("target line", "this system"), ("faint line", "equal error rates")]
    keys += [("point o", "operating points, numbered as below"), ("decision D", "D: the threshold in use")]
    caption = "Detection error trade-off, normal-deviate axes. Lower left is better."
    if not inside.any():
        caption += " No threshold makes errors of both kinds on these trials: the curve lies outside the frame."
    return figure(caption, panel.svg(), legend(keys))


def _det_ticks(rates: list[float], limits: tuple[float, float], pixels: float, room: float) -> list[Tick]:
    """Ticks at these rates; their labels where there is room, those of DET_FIRST first."""
    places = {rate: float(ndtri(rate)) for rate in rates}
    scale = pixels / (limits[1] - limits[0])
    named: list[float] = []
    for rate in sorted(rates, key=DET_FIRST.index):
        if all(abs(places[rate] - places[other]) * scale >= room for other in named):
            named.append(rate)
    return [(places[rate], f"{100 * rate:g} %" if rate in named else "") for rate in rates]


def score_plot(measured: Evaluation) -> str:
    """Densities of target and non-target scores, and the threshold."""
    found = measured.curves.densities
    edges, heights = found.edges, (found.target, found.nontarget)
    top = 1.08 * max(float(height.max()) for height in heights)
    panel = Panel(
        title="Scores of target and non-target trials",
        x_range=(float(edges[0]), float(edges[-1])),
        y_range=(0.0, top),
        x_label=scale_name(measured),
        y_label="density",
        x_ticks=nice_ticks(float(edges[0]), float(edges[-1])),
        y_ticks=nice_ticks(0.0, top, 4),
    )
    for height, kind in zip(heights[::-1], ("nontarget", "target"), strict=True):
        panel.area(np.repeat(edges, 2)[1:-1], np.repeat(height, 2), kind)
    panel.line([measured.threshold] * 2, [0.0, top], "threshold")
    keys = [
        ("target area", count(found.num_target, "target trial")),
        ("nontarget area", count(found.num_nontarget, "non-target trial")),
        ("threshold line", f"threshold {score(measured.threshold, measured.is_calibrated)}"),
    ]
    return figure("Scores: trials right of the threshold are accepted.", panel.svg(), legend(keys))


def reliability_plot(measured: Evaluation) -> str:
    """How often a posterior is right, at equal priors."""
    found = measured.curves.reliability
    assert found is not None
    ticks = [(share / 100, f"{share} %") for share in (0, 20, 40, 60, 80, 100)]
    panel = Panel(
        title="Reliability",
        x_range=(-0.03, 1.03),
        y_range=(-0.03, 1.03),
        x_label="stated probability of one speaker",
        y_label="observed share",
        x_ticks=ticks,
        y_ticks=ticks,
        left=68,
    )
    panel.line([0, 1], [0, 1], "faint")
    panel.line(found.predicted, found.observed, "target")
    for x, y, targets, others in zip(
        found.predicted, found.observed, found.num_target, found.num_nontarget, strict=True
    ):
        tip = f"{count(int(targets), 'target trial')}, {count(int(others), 'non-target trial')}"
        panel.dot(float(x), float(y), "target" if targets + others >= MIN_IN_BIN else "hollow", tip=tip)
    keys = [
        ("faint line", "perfectly calibrated"),
        ("target line", "this system, tenths of the trials at equal priors"),
    ]
    return figure(
        "Reliability: below the line the system is too sure that two recordings are of one speaker, above it not "
        "sure enough.",
        panel.svg(),
        legend(keys),
    )


def ape_plot(measured: Evaluation) -> str:
    """The error rate of Bayes decisions over priors, with these LLRs and with the best thresholds."""
    found = measured.curves.ape
    assert found is not None
    top = 1.15 * max(float(found.actual.max()), float(found.minimum.max()), 1e-3)
    ticks = [(place, f"{100 * place:.3g} %") for place, _ in nice_ticks(0.0, top, 5)]
    panel = Panel(
        title="Applied probability of error",
        x_range=(float(found.log_odds[0]), float(found.log_odds[-1])),
        y_range=(0.0, top),
        x_label="prior log-odds of a target trial (natural log)",
        y_label="error probability",
        x_ticks=nice_ticks(-6, 6),
        y_ticks=ticks,
        left=68,
    )
    for side in (found.log_odds <= 0, found.log_odds >= 0):
        below = side & (found.default <= top)
        panel.line(found.log_odds[below], found.default[below], "faint")
    at = measured.curves.prior_log_odds
    _, c_miss, c_fa = measured.cost.settings
    costs = "" if c_miss == c_fa == 1 else f", c_miss {c_miss:g}, c_fa {c_fa:g}"
    panel.line([at, at], [0.0, top], "threshold")
    panel.line(found.log_odds, found.minimum, "minimum")
    panel.line(found.log_odds, found.actual, "target")
    keys = [
        ("target line", "with these LLRs (area: Cllr)"),
        ("minimum line", "with the best threshold (area: minCllr)"),
        ("faint line", "without a system"),
        ("threshold line", f"p_target {measured.cost.p_target:g}{costs}"),
    ]
    return figure(
        "Applied probability of error: the gap between the two curves is what calibration loses.",
        panel.svg(),
        legend(keys),
    )


def speaker_maps(measured: Evaluation) -> str:
    """t-SNE and principal components of the embeddings; colors and a legend of speakers up to 20, names beyond."""
    found = measured.speaker_map
    if found is None:
        return "<p>Fewer than 3 recordings have an embedding with a direction: there is nothing to map.</p>"
    rows, speaker, gender = found.rows, found.speaker_index, found.gender
    names = list(found.speakers)
    few = len(names) <= len(colors.SPEAKERS)
    keys: list[tuple[str, str]] = []
    for code, (label, shape) in colors.GENDERS.items():
        if (gender == code).any():
            keys.append((f"neutral {shape}", f"{label}: {count(len(set(speaker[gender == code])), 'speaker')}"))
    if few:
        for at, name in enumerate(names):
            code = Counter(gender[speaker == at].tolist()).most_common(1)[0][0]
            keys.append((f"s{at} {colors.GENDERS[code][1]}", shortened(name)))
    maps = []
    for title, points in (("t-SNE", found.tsne), ("Principal components", found.principal)):
        drawn, written = _map(title, points.astype(np.float64), speaker, names, gender, measured, rows, few)
        named = "" if few else f" Names of {written} of {len(names)} speakers fit."
        what = (
            "neighbors are alike, distances between far groups mean nothing"
            if title == "t-SNE"
            else ("the two directions in which the embeddings differ most")
        )
        maps.append(figure(f"{title}: {what}.{named}", drawn, kind="" if few else "large"))
    left = found.num_recordings - len(rows)
    note = f"<p>{count(len(rows), 'recording')} of {found.num_recordings:,} are shown.</p>" if left else ""
    beyond = (
        ""
        if few
        else "<p>With more than 20 speakers colors repeat, at a distance; hover over a point for its name.</p>"
    )
    return f'{note}{beyond}<div class="{"plots" if few else ""}">{"".join(maps)}</div>{legend(keys)}'


def _map(
    title: str,
    points: NDArray[np.float64],
    speaker: NDArray[np.int64],
    names: list[str],
    gender: NDArray[np.int8],
    measured: Evaluation,
    rows: NDArray[np.int64],
    few: bool,
) -> tuple[str, int]:
    centers = np.array([np.median(points[speaker == at], axis=0) for at in range(len(names))])
    color = np.arange(len(names)) if few else colors.speaker_colors(centers)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    across, along = (float(extent) for extent in np.maximum(np.ptp(points, axis=0), 1e-6))
    width = 560.0 if few else 960.0
    height = width * float(np.clip(along / across, 0.6, 1.0))
    half = 0.54 * max(across / width, along / height)
    panel = Panel(
        title=f"{title} of {count(len(names), 'speaker')}",
        x_range=(middle[0] - half * width, middle[0] + half * width),
        y_range=(middle[1] - half * height, middle[1] + half * height),
        width=width,
        height=height,
        left=4,
        right=4,
        top=4,
        bottom=4,
    )
    radius = float(np.clip(90 / np.sqrt(len(points)), 3.0, 4.5))
    for at, (x, y) in enumerate(points):
        shape = colors.GENDERS[int(gender[at])][1]
        tip = f"{names[speaker[at]]}: {measured.manifest.id[int(rows[at])]}"
        panel.dot(float(x), float(y), f"s{color[speaker[at]]}", radius=radius, shape=shape, tip=tip)
    if few:
        return panel.svg(), 0
    order = np.argsort(-np.bincount(speaker), kind="stable")
    texts = [shortened(names[at]) for at in order]
    dots = np.stack([panel.x(points[:, 0]), panel.y(points[:, 1])], axis=1)
    taken: list[Box] = []
    for at, text in zip(order, texts, strict=True):
        box = _box(float(panel.x(centers[at][0])), float(panel.y(centers[at][1])), text)
        if (shift := free_place(box, panel.frame, taken, dots, room=radius)) is not None:
            taken.append(moved(box, shift))
            panel.text(*_baseline(taken[-1]), text, "name", anchor="middle")
    return panel.svg(), len(taken)


def _box(x: float, y: float, text: str) -> Box:
    """What a text takes whose middle is here."""
    half = LETTER * len(text) / 2 + 2
    return x - half, y - LINE / 2, x + half, y + LINE / 2


def _baseline(box: Box) -> tuple[float, float]:
    """Where a text in this box is anchored, by its middle."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + 4


def _along(x: NDArray[np.float64], y: NDArray[np.float64], step: float = 3.0) -> NDArray[np.float64]:
    """Points [n, 2] on a line through these, so many pixels apart."""
    if not len(x):
        return np.empty((0, 2))
    length = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
    at = np.arange(0.0, length[-1] + step, step)
    return np.stack([np.interp(at, length, x), np.interp(at, length, y)], axis=1)


def interval_strip(value: float, low: float | None, high: float | None, whole: float, top: float, departs: bool) -> str:
    """A value with its interval on a scale from 0 to `top`, beside the whole's line; one for each row of a table."""
    width, height = 120.0, 16.0

    def at(share: float) -> float:
        return 3 + (width - 6) * min(share, top) / top

    kind = "departing" if departs else "neutral"
    parts = [f'<line class="whole" x1="{at(whole):.1f}" x2="{at(whole):.1f}" y1="0" y2="{height:g}"/>']
    if low is not None and high is not None:
        parts.append(f'<line class="line {kind}" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="8" y2="8"/>')
    parts.append(marker(at(value), 8, 4, "D" if departs else "o", f"dot {kind}"))
    return f'<svg class="strip" viewBox="0 0 {width:g} {height:g}" aria-hidden="true">{"".join(parts)}</svg>'


def strip_top(slices: Slices) -> float:
    """The right end of the strips' scale: a round share that holds every EER and its interval."""
    ends = [one.measures["eer"] for one in (slices.whole, *slices.slices) if "eer" in one.measures]
    most = max(figure.high if figure.high is not None else figure.value for figure in ends)
    return next(top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0) if top >= most)
