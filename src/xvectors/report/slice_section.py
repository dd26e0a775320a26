"""For whom the system fails, as the page says it: groups that differ in a table, the others behind a click.
In: slices. Out: markup."""

from __future__ import annotations

from collections.abc import Sequence

from xvectors.evaluation.slices import Slice, SliceMeasure, Slices
from xvectors.report.drawings import interval_strip, strip_top
from xvectors.report.glossary import term
from xvectors.report.markup import amount, between, escaped, named, percent, table
from xvectors.text import count

DIMENSIONS = {
    "gender": "gender",
    "age": "age",
    "age difference": "difference in age",
    "shorter recording": "length of the shorter recording",
    "noisier recording, SNR": "noise (SNR) of the noisier recording",
    "session": "recording session",
}
GROUPS = {
    False: {"female speakers": "women", "male speakers": "men", "a female and a male speaker": "a woman and a man"},
    True: {
        "female speakers": "girls and women",
        "male speakers": "boys and men",
        "a female and a male speaker": "one female, one male",
    },
}
"""By whether children are among the speakers."""


class SliceWords:
    """What dimensions and groups are called; further columns of a corpus go by their own names."""

    def __init__(self, *, children: bool) -> None:
        self._groups = GROUPS[children]

    def dimension(self, one: Slice) -> str:
        return DIMENSIONS.get(one.dimension, f"column “{one.dimension}”")

    def group(self, one: Slice) -> str:
        return self._groups.get(one.name, one.name) if one.dimension == "gender" else one.name


def slice_section(slices: Slices, words: SliceWords, *, calibrated: bool) -> str:
    """The groups that differ from the whole; then a line about the others, which a click shows."""
    if not slices.slices:
        return (
            "<p>The corpus tells nothing to part the trials by: no gender, age or session, and recordings of one "
            "length.</p>"
        )
    differ = [one for one in slices.slices if one.departs]
    same = [one for one in slices.slices if not one.departs]
    parts = []
    if differ:
        number = f"{count(len(differ), 'group')} of {len(slices.slices)} {_verb('differ', len(differ))}"
        parts.append(
            f"<p>{number} from the whole, which ◆ marks. Both recordings of a trial are of the group. The "
            f"{100 * slices.confidence:g} % {term('interval', 'interval')} of the difference leaves out 0; about one "
            "group in twenty gets a mark by chance, more with few speakers.</p>"
        )
        parts.append(_table(differ, slices, words, calibrated=calibrated))
    small = [one for one in same if "eer" not in one.measures]
    measured = [one for one in same if "eer" in one.measures]
    if names := _dimensions(measured, differ, words):
        parts.append(f"<p>No difference was found by {names}.</p>")
    if small:
        groups = "group is" if len(small) == 1 else "groups are"
        parts.append(f"<p>{len(small)} {groups} too small to measure an EER.</p>")
    if measured:
        shown = _table(measured, slices, words, calibrated=calibrated)
        number = f"{count(len(measured), 'group')} that {_verb('do', len(measured))} not differ"
        parts.append(f"<details><summary>{number}</summary>{shown}</details>")
    if small:
        shown = _table_of_small(small, words, calibrated=calibrated)
        parts.append(f"<details><summary>{count(len(small), 'group')} too small for an EER</summary>{shown}</details>")
    return "".join(parts)


def _verb(verb: str, number: int) -> str:
    """The present of “do” or a verb like “differ”."""
    if number != 1:
        return verb
    return "does" if verb == "do" else f"{verb}s"


def _dimensions(measured: Sequence[Slice], differ: Sequence[Slice], words: SliceWords) -> str:
    """The dimensions none of whose groups differs, in words."""
    marked = {one.dimension for one in differ}
    names = [escaped(words.dimension(one)) for one in measured if one.dimension not in marked]
    names = list(dict.fromkeys(names))
    return " or ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _table(shown: Sequence[Slice], slices: Slices, words: SliceWords, *, calibrated: bool) -> str:
    top = strip_top(slices)
    measures = ["frr", "far", *(["actual_dcf"] if calibrated else [])]
    names = _measure_names()
    head = ["group", term("eer", "EER"), f"0 to {percent(top)}", *(names[key] for key in measures)]
    head += ["EER less the whole’s, % points", "speakers", "trials<small>target / non-target</small>"]
    rows = [_row(one, slices.whole, words, measures, top) for one in (slices.whole, *shown)]
    return table(head, rows, kind="slices strips", numbers=[1, *range(3, len(head))])


def _table_of_small(shown: Sequence[Slice], words: SliceWords, *, calibrated: bool) -> str:
    measures = ["frr", "far", *(["actual_dcf"] if calibrated else [])]
    names = _measure_names()
    head = ["group", *(names[key] for key in measures), "speakers", "trials<small>target / non-target</small>"]
    rows = [(_name(one, words, note=one.note), *(_rate(one, key) for key in measures), *_sizes(one)) for one in shown]
    return table(head, rows, kind="slices", numbers=range(1, len(head)))


def _measure_names() -> dict[str, str]:
    return {"frr": term("frr", "misses"), "far": term("far", "false matches"), "actual_dcf": term("dcf", "actDCF")}


def _row(one: Slice, whole: Slice, words: SliceWords, measures: list[str], top: float) -> tuple[str, ...]:
    eer = one.measures.get("eer")
    of_whole = whole.measures["eer"]
    value, strip, difference = "–", "", "–"
    if eer is not None:
        strip = interval_strip(eer.value, eer.low, eer.high, of_whole.value, top, eer.departs)
        value, difference = _cell(eer, "share"), "" if one is whole else _difference(eer)
    rates = (_rate(one, key) for key in measures)
    return _name(one, words, note="" if eer else one.note), value, strip, *rates, difference, *_sizes(one)


def _name(one: Slice, words: SliceWords, *, note: str = "") -> str:
    """The whole has no dimension."""
    if not one.dimension:
        return f"<b>{escaped(one.name)}</b>"
    below = escaped(words.dimension(one)) + (f"<br>{escaped(note)}" if note else "")
    return f"{named(words.group(one))}<small>{below}</small>"


def _sizes(one: Slice) -> tuple[str, str]:
    targets = "<span class=muted>all</span>" if one.kind == "non-targets" else f"{one.num_target:,}"
    nontargets = "<span class=muted>all</span>" if one.kind == "targets" else f"{one.num_nontarget:,}"
    return f"{one.num_speakers:,}", f"{targets} / {nontargets}"


def _rate(one: Slice, key: str) -> str:
    figure = one.measures.get(key)
    if figure is None:
        return "–"
    if figure.value == 0 and key in ("frr", "far"):
        trials = one.num_target if key == "frr" else one.num_nontarget
        return _marked("0 %", figure.departs) + f"<small>0 of {trials:,}</small>"
    return _cell(figure, "cost" if key == "actual_dcf" else "share")


def _cell(figure: SliceMeasure, unit: str) -> str:
    text = _marked(amount(figure.value, unit), figure.departs)
    if figure.low is None or figure.high is None:
        return text
    return f"{text}<small>{between(figure.low, figure.high, unit)}</small>"


def _difference(figure: SliceMeasure) -> str:
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
