"""What everybody reads first: the verdict and four figures. In: an evaluation. Out: markup."""

from __future__ import annotations

from xvectors.evaluation.result import Evaluation
from xvectors.evaluation.verdict import ErrorRate, Style, Verdict
from xvectors.report.glossary import term
from xvectors.report.markup import between, escaped, named, percent

STYLE = Style(
    strong="<strong>{}</strong>".format,
    name=named,
    code=lambda command: f"<code>{escaped(command)}</code>",
)


def verdict_box(verdict: Verdict) -> str:
    """The sentences of the verdict; a class of its own where there are too few speakers to say."""
    kind = "verdict few" if verdict.is_too_few else "verdict"
    said = "".join(f"<p>{sentence}</p>" for sentence in verdict.sentences(STYLE))
    return f'<div class="{kind}">{said}</div>'


def four_figures(measured: Evaluation, verdict: Verdict) -> str:
    """Both error rates at the threshold in use, the EER, and how often the right person is found."""
    eer = measured.measures["eer"]
    ends = "" if eer.interval is None else f"{between(eer.interval.low, eer.interval.high, 'share')}; "
    cards = [
        _rate_card("Two people taken for one", verdict.false_accepts, term("far", "false acceptances")),
        _rate_card("One person missed", verdict.misses, term("frr", "false rejections")),
        ("Error rate when both are equal", percent(eer.value), f"{ends}{term('eer', 'EER')}, to compare systems by"),
    ]
    found = measured.measures.get("rank_1")
    num_speakers = len(measured.manifest.speakers)
    if found is None:
        cards.append(("People measured", f"{num_speakers:,}", f"{len(measured.manifest):,} recordings"))
    else:
        note = f"among {num_speakers:,} people; {term('rank', 'identification, rank 1')}"
        cards.append(("The right person found first", percent(found.value), note))
    items = (
        f"<div><dt>{title}</dt><dd class=value>{value}</dd><dd class=about>{about}</dd></div>"
        for title, value, about in cards
    )
    return f'<dl class="cards">{"".join(items)}</dl>'


def _rate_card(title: str, rate: ErrorRate, name: str) -> tuple[str, str, str]:
    """With an interval a share, without one the bare counts."""
    counts = f"{rate.num_errors:,} of {rate.num_trials:,}"
    if rate.low is None or rate.high is None:
        return title, counts, f"pairs; {name}"
    return title, percent(rate.value), f"{between(rate.low, rate.high, 'share')}; {name}, {counts} pairs"
