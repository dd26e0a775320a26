"""Write the report's page: one HTML file that needs no network and no scripts.

The templates stand in templates/, the style sheet is page.css. Nothing is measured here.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from xvectors.evaluation.measures import COVERAGE, MIN_SPEAKERS
from xvectors.evaluation.result import NOT_CALIBRATED, Evaluation
from xvectors.evaluation.verdict import Style
from xvectors.files import write_text
from xvectors.report.formats import MAX_NAME, amount, between, clean, confidence_level, shortened
from xvectors.report.pictures import draw_maps, draw_pictures
from xvectors.report.recordings import MAX_ID, Recordings
from xvectors.report.slice_view import view_slices
from xvectors.report.views import (
    bounds_words,
    view_cards,
    view_data,
    view_leakage,
    view_making,
    view_measures,
    view_pairs,
    view_points,
    view_settings,
    view_shift,
    view_trials,
)
from xvectors.text import agree, count


def write_page(evaluation: Evaluation, path: Path, *, audio: bool) -> Path:
    """Write the page, atomically.

    Parameters
    ----------
    path
        The file to write; links to recordings are relative to its folder.
    audio
        Whether to include short excerpts of the recordings that the page shows, as far as their files are found.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    StorageError
        The page cannot be written; an earlier one is intact.
    """
    write_text(path, render_page(evaluation, path.parent, audio=audio))
    return path


def render_page(evaluation: Evaluation, folder: Path, *, audio: bool) -> str:
    """Return the page's text, for a page in `folder`."""
    environment = _environment()
    macros: Any = environment.get_template("macros.html").module
    recordings = Recordings(evaluation, folder, audio=audio)
    mistakes = evaluation.mistakes
    said_elsewhere = {NOT_CALIBRATED, *(measure.note for measure in evaluation.measures.values())}
    return environment.get_template("page.html").render(
        e=evaluation,
        audio=audio,
        style=files("xvectors.report").joinpath("page.css").read_text(encoding="utf-8"),
        sentences=evaluation.verdict.sentences(Style(strong=macros.strong, name=macros.name, code=macros.code)),
        warnings=[line for line in evaluation.warnings if line not in said_elsewhere],
        unit="LLR" if evaluation.is_calibrated else "score",
        cards=view_cards(evaluation),
        slices=view_slices(evaluation),
        pairs=view_pairs(evaluation, recordings),
        false_accepts=view_trials(evaluation, mistakes.worst_false_accepts, recordings),
        misses=view_trials(evaluation, mistakes.worst_misses, recordings),
        measures=view_measures(evaluation),
        points=view_points(evaluation),
        pictures=draw_pictures(evaluation),
        shift=view_shift(evaluation),
        no_shift=(evaluation.no_shift[:1].upper() + evaluation.no_shift[1:]).split("`"),
        bounds=bounds_words(evaluation),
        maps=draw_maps(evaluation),
        data=view_data(evaluation),
        leakage=view_leakage(evaluation, recordings),
        making=view_making(evaluation),
        settings=view_settings(evaluation),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("xvectors.report"),
        autoescape=True,
        finalize=_printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(max_name=MAX_NAME, max_id=MAX_ID, coverage=COVERAGE, min_speakers=MIN_SPEAKERS)
    environment.filters.update(shortened=shortened, count=count, agree=agree, amount=amount)
    environment.globals.update(between=between, confidence_level=confidence_level)
    return environment


def _printed(value: object) -> object:
    """Clean what a template prints, unless it is markup that a macro has escaped already."""
    return value if hasattr(value, "__html__") else clean(value)
