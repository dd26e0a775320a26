"""The report as one HTML file that needs no network. In: an evaluation. Out: index.html.
page.html is its skeleton and page.css its look; both stand beside this module."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from xvectors.files import write_text
from xvectors.report import colours, drawings, sections
from xvectors.report.markup import between, escaped
from xvectors.report.measured import Measured
from xvectors.report.recordings import Recordings
from xvectors.report.slices import Slices, slices_of


def write_page(measured: Measured, path: Path, *, audio: bool, slices: Slices | None = None) -> Path:
    """Write the page, atomically.

    Args:
        audio: whether short excerpts of the recordings that the page names are put into it, where their files are
            on this machine.
        slices: where they have been measured already; by default they are now.

    Returns:
        path.

    Raises:
        StorageError: the page cannot be written; what stood there is intact.
    """
    if slices is None:
        slices = slices_of(measured)
    write_text(path, page(measured, path.parent, slices, audio=audio))
    return path


def page(measured: Measured, folder: Path, slices: Slices, *, audio: bool) -> str:
    """The page's text, for the folder that it will stand in."""
    recordings = Recordings(measured, folder, audio=audio)
    parts = [
        ("figures", "Figures", sections.headline(measured)),
        ("errors", "Errors and thresholds", _errors(measured)),
        ("slices", "For whom it fails", _slices(slices, calibrated=measured.is_calibrated)),
        ("calibration", "Calibration", _calibration(measured)),
        ("speakers", "Speakers", drawings.speaker_maps(measured)),
        ("pairs", "Speakers taken for each other", _pairs(measured, recordings)),
        ("trials", "The worst errors", _trials(measured, recordings, audio=audio)),
        ("data", "Data", sections.data_facts(measured)),
        ("leakage", "Leakage and labels", sections.leakage(measured, recordings)),
        ("making", "How it was made", sections.making(measured)),
    ]
    return _resource("page.html").substitute(
        title=f"{escaped(measured.system)}: speaker recognition report",
        style=_resource("page.css").substitute(speakers=_speaker_colours()),
        heading=f"How well {escaped(measured.system)} tells speakers apart",
        lead=sections.lead(measured),
        warnings="".join(f'<p class="warning">{escaped(line)}</p>' for line in measured.warnings),
        contents="".join(f'<a href="#{name}">{title}</a>' for name, title, _ in parts),
        body="\n".join(f'<section id="{name}"><h2>{title}</h2>\n{body}</section>' for name, title, body in parts),
    )


def _errors(measured: Measured) -> str:
    plots = drawings.det_plot(measured) + drawings.score_plot(measured)
    return f'<div class="plots">{plots}</div>{sections.operating(measured)}'


def _slices(slices: Slices, *, calibrated: bool) -> str:
    surely = sum(one.departs for one in slices.slices)
    return (
        "<p>Error rates of groups of trials at the one threshold in use, the group whose EER is farthest from the "
        "whole's first. Both recordings of a trial are of the group; of duration and SNR the shorter and the noisier "
        "recording decides. Groups that pick trials of one kind are measured against all trials of the other.</p>"
        f"<p>◆ marks a difference from the whole whose {100 * slices.confidence:g} % interval leaves out 0 "
        f"({surely} of {len(slices.slices)} groups have one). "
        "Of figures that do not differ, about one in twenty is marked by chance, more with few speakers.</p>"
        f"{sections.slice_table(slices, calibrated=calibrated)}"
    )


def _calibration(measured: Measured) -> str:
    if not measured.is_calibrated:
        return (
            "<p>This system has no calibration: its scores only rank trials, they do not say how sure a decision is. "
            "The threshold in use may not suit other recordings.</p>"
        )
    loss = ""
    if {"cllr", "min_cllr", "calibration_loss"} <= set(measured.figures):
        cllr, least, lost = (measured.figures[key] for key in ("cllr", "min_cllr", "calibration_loss"))
        ends = lost.interval
        sure = ""
        if ends is not None:
            level = f"{100 * ends.confidence:g}\N{NO-BREAK SPACE}%"
            sure = f" ({level} interval {between(ends.low, ends.high, lost.unit)})"
        loss = (
            f"<p>Cllr {cllr.value:.3f} bits, of which {least.value:.3f} bits are what no calibration could mend "
            f"(minCllr) and <b>{lost.value:.3f} bits</b>{sure} are the calibration loss.</p>"
        )
    plots = drawings.reliability_plot(measured) + drawings.ape_plot(measured)
    return f'{loss}<div class="plots">{plots}</div>'


def _pairs(measured: Measured, recordings: Recordings) -> str:
    return "<p>The pairs of speakers whose trials score highest on average.</p>" + sections.pair_table(
        measured, recordings
    )


def _trials(measured: Measured, recordings: Recordings, *, audio: bool) -> str:
    played = " The first seconds of each recording can be played where its file was at hand." if audio else ""
    return (
        "<p>The trials decided most wrongly at the threshold in use: of each pair of speakers one false accept, of "
        f"each speaker at most two false rejects.{played}</p>" + sections.trial_tables(measured, recordings)
    )


def _speaker_colours() -> str:
    """A class a colour of the maps, for light and for dark paper."""
    light, dark = (
        "\n".join(f".dot.s{at} {{ fill: {colour}; }}" for at, colour in enumerate(palette))
        for palette in (colours.SPEAKERS, colours.DARK_SPEAKERS)
    )
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _resource(name: str) -> Template:
    return Template(files("xvectors.report").joinpath(name).read_text(encoding="utf-8"))
