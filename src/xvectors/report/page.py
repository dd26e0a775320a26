"""The report as one HTML file that needs no network. In: an evaluation. Out: index.html.
page.html is its skeleton and page.css its look; both stand beside this module."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.slices import Slices
from xvectors.files import write_text
from xvectors.report import colors, drawings, sections
from xvectors.report.finding import four_figures, verdict_box
from xvectors.report.glossary import glossary, term
from xvectors.report.markup import MOST_OF_NAME, between, escaped, named, shortened
from xvectors.report.recordings import Recordings
from xvectors.report.slice_section import SliceWords, slice_section

ADULT_YEARS = 18


def write_page(measured: Evaluation, path: Path, *, audio: bool) -> Path:
    """Write the page, atomically.

    Args:
        audio: whether short excerpts of the recordings that the page names are put into it, where their files are
            on this machine.

    Returns:
        path.

    Raises:
        StorageError: the page cannot be written; what stood there is intact.
    """
    write_text(path, page(measured, path.parent, audio=audio))
    return path


def page(measured: Evaluation, folder: Path, *, audio: bool) -> str:
    """The page's text, for the folder that it will stand in."""
    recordings = Recordings(measured, folder, audio=audio)
    verdict, slices = measured.verdict, measured.slices
    with np.errstate(invalid="ignore"):
        words = SliceWords(children=bool((measured.manifest.age < ADULT_YEARS).any()))
    first = [
        ("for-whom", "For whom it works better or worse", _slices(slices, words, calibrated=measured.is_calibrated)),
        ("pairs", "Who is taken for whom", _pairs(measured, recordings)),
        ("trials", "The worst errors", _trials(measured, recordings, audio=audio)),
    ]
    rest = [
        ("figures", "All figures", sections.headline(measured)),
        ("errors", "Errors and thresholds", _errors(measured)),
        ("calibration", "Calibration", _calibration(measured)),
        ("speakers", "Maps of the speakers", drawings.speaker_maps(measured)),
        ("data", "Data", sections.data_facts(measured)),
        ("leakage", "Leakage and labels", sections.leakage(measured, recordings)),
        ("making", "How it was made", sections.making(measured)),
        ("words", "Words used on this page", glossary()),
    ]
    return _resource("page.html").substitute(
        title=f"{escaped(shortened(measured.system, MOST_OF_NAME))}: speaker recognition report",
        style=_resource("page.css").substitute(speakers=_speaker_colors()),
        heading=f"How well {named(measured.system)} tells speakers apart",
        verdict=verdict_box(verdict),
        warnings="".join(f'<p class="warning">{escaped(line)}</p>' for line in _warnings(measured)),
        figures=four_figures(measured, verdict),
        contents="".join(f'<a href="#{name}">{title}</a>' for name, title, _ in first)
        + '<a href="#research">For researchers</a>',
        first="\n".join(f'<section id="{name}"><h2>{title}</h2>\n{body}</section>' for name, title, body in first),
        research_contents="".join(f'<a href="#{name}">{title}</a>' for name, title, _ in rest),
        rest="\n".join(f'<section id="{name}"><h3>{title}</h3>\n{body}</section>' for name, title, body in rest),
    )


def _warnings(measured: Evaluation) -> list[str]:
    """Those that the verdict or the table of figures does not say itself."""
    said = {figure.note for figure in measured.measures.values()}
    return [line for line in measured.warnings if line not in said]


def _errors(measured: Evaluation) -> str:
    plots = drawings.det_plot(measured) + drawings.score_plot(measured)
    return f'<div class="plots">{plots}</div>{sections.operating(measured)}'


def _slices(slices: Slices, words: SliceWords, *, calibrated: bool) -> str:
    return "<p>Error rates of groups of recordings, all at the one threshold in use.</p>" + slice_section(
        slices, words, calibrated=calibrated
    )


def _calibration(measured: Evaluation) -> str:
    if not measured.is_calibrated:
        return (
            f"<p>This system has no {term('calibration', 'calibration')}: its scores rank trials, but do not say how "
            "sure a decision is. The threshold in use may not suit other recordings.</p>"
        )
    loss = ""
    if {"cllr", "min_cllr", "calibration_loss"} <= set(measured.measures):
        cllr, least, lost = (measured.measures[key] for key in ("cllr", "min_cllr", "calibration_loss"))
        ends = lost.interval
        sure = ""
        if ends is not None:
            level = f"{100 * ends.confidence:g}\N{NO-BREAK SPACE}%"
            sure = f" ({level} interval {between(ends.low, ends.high, lost.unit)})"
        loss = (
            f"<p>{term('cllr', 'Cllr')} is {cllr.value:.3f} bits. The best calibration of these scores would leave "
            f"{least.value:.3f} bits (minCllr); <b>{lost.value:.3f} bits</b>{sure} are the calibration loss.</p>"
        )
    plots = drawings.reliability_plot(measured) + drawings.ape_plot(measured)
    return f'{loss}<div class="plots">{plots}</div>'


def _pairs(measured: Evaluation, recordings: Recordings) -> str:
    scale = term("llr", "LLR") if measured.is_calibrated else term("score", "score")
    return (
        f"<p>The pairs of people whose voices the system finds most alike, by the mean {scale} of their recordings.</p>"
        + sections.pair_table(measured, recordings)
    )


def _trials(measured: Evaluation, recordings: Recordings, *, audio: bool) -> str:
    played = " The first seconds of a recording can be played where its file was at hand." if audio else ""
    return (
        "<p>The pairs of recordings that were decided most wrongly: one for each pair of people taken for one, and at "
        f"most two for each person missed.{played}</p>" + sections.trial_tables(measured, recordings)
    )


def _speaker_colors() -> str:
    """A class a color of the maps, for light and for dark paper."""
    light, dark = (
        "\n".join(f".dot.s{at} {{ fill: {color}; }}" for at, color in enumerate(palette))
        for palette in (colors.SPEAKERS, colors.DARK_SPEAKERS)
    )
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _resource(name: str) -> Template:
    return Template(files("xvectors.report").joinpath(name).read_text(encoding="utf-8"))
