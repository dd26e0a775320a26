"""The page can be used by keyboard and screen reader, and read in light and dark: what its files say of it.

Rules are those of WCAG 2.2 (https://www.w3.org/TR/WCAG22/), named by number.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

import xvectors

PAGE = Path(xvectors.__file__).parent / "serve" / "page"
HTML, STYLE, SCRIPT, STRINGS = (
    (PAGE / name).read_text(encoding="utf-8") for name in ("index.html", "style.css", "app.js", "strings.js")
)
WITHOUT_END = {"meta", "link", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    inside: tuple[str, ...]
    """Tags and ids of what it is in."""
    texts: list[str] = field(default_factory=list)
    """Names of the texts in it."""


class Reader(HTMLParser):
    """Reads the elements of a page in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        inside = tuple(each.tag for each in self._open)
        self.elements.append(Element(tag, attributes, inside))
        if tag not in WITHOUT_END:
            self._open.append(self.elements[-1])
        for each in self._open:
            each.texts += [attributes["data-text"]] if "data-text" in attributes else []

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes another element"


def read() -> list[Element]:
    reader = Reader()
    reader.feed(HTML)
    assert [each.tag for each in reader._open] == []
    return reader.elements


ELEMENTS = read()
IDS = {each.attributes["id"]: each for each in ELEMENTS if "id" in each.attributes}


def test_ids_are_single_and_references_lead_somewhere() -> None:
    ids = [each.attributes["id"] for each in ELEMENTS if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    for each in ELEMENTS:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert each.attributes.get(name, ids[0]) in ids
    assert set(re.findall(r'\$\("([\w-]+)"\)', SCRIPT)) <= set(ids)


def test_the_page_has_a_language_a_title_landmarks_and_ordered_headings() -> None:
    assert ELEMENTS[0].attributes == {"lang": "en"}, "3.1.1"
    assert "<title>xvectors</title>" in HTML, "2.4.2"
    assert [each.tag for each in ELEMENTS if each.tag in ("header", "main", "footer")] == ["header", "main"], "1.3.1"
    levels = [int(each.tag[1]) for each in ELEMENTS if re.fullmatch(r"h[1-6]", each.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "1.3.1"
    for each in ELEMENTS:
        if each.tag == "section":
            assert IDS[each.attributes["aria-labelledby"]].tag == "h2"
    (viewport,) = [each for each in ELEMENTS if each.attributes.get("name") == "viewport"]
    assert "scalable" not in viewport.attributes["content"], "1.4.4"
    assert "maximum" not in viewport.attributes["content"], "1.4.4"


def test_everything_to_act_on_has_a_name() -> None:
    labels = {each.attributes.get("for"): each for each in ELEMENTS if each.tag == "label"}
    given_by_script = set(re.findall(r'\$\("(\w+)"\)\.setAttribute\("aria-label"', SCRIPT)) | {"map"}
    acted_on = [each for each in ELEMENTS if each.tag in ("input", "select", "button", "summary", "meter", "audio")]
    assert len(acted_on) == 13
    for each in acted_on:
        own = each.attributes.get("id")
        named_by_label = own in labels and bool(labels[own].texts)
        in_label = "label" in each.inside
        assert each.texts or named_by_label or in_label or own in given_by_script, f"4.1.2: {each}"
    for each in ELEMENTS:
        if each.attributes.get("role") == "img":
            assert each.attributes["id"] in given_by_script, "1.1.1"
    assert 'setAttribute("aria-label", strings.mapOf' in (PAGE / "map.js").read_text(encoding="utf-8")
    for made in re.findall(r'element\("(?:input|meter|select)".*?\)\)?[;,]', SCRIPT):
        assert "aria-label" in made, "4.1.2"


def test_all_of_it_is_reached_by_keyboard() -> None:
    assert {each.attributes["tabindex"] for each in ELEMENTS if "tabindex" in each.attributes} == {"-1"}, "2.4.3"
    for each in ELEMENTS:
        assert not [name for name in each.attributes if name.startswith("on")], "2.1.1: and no script in the page"
        assert "style" not in each.attributes
        assert "autofocus" not in each.attributes
    clicked = set(re.findall(r'\$\("(\w+)"\)\.addEventListener\("click"', SCRIPT))
    assert clicked == {"record", "identify", "diarize"}
    assert {IDS[name].tag for name in clicked} == {"button"}, "2.1.1: what is clicked is a button"
    assert "outline: none" not in STYLE
    assert re.search(r":focus-visible, \.button:has\(\+ \.hidden:focus-visible\) \{ outline: 3px solid", STYLE), "2.4.7"


def test_what_happens_is_said_aloud() -> None:
    said = {each.attributes["id"] for each in ELEMENTS if each.attributes.get("role") == "status"}
    assert said == {"current", "progress", "enrolled"}, "4.1.3"
    assert SCRIPT.count('class: "problem", role: "alert"') == 2
    assert IDS["verdict"].attributes["role"] == "region"
    assert SCRIPT.count("place.focus();") == 2, "an answer is gone to"
    assert "aria-pressed" not in SCRIPT + HTML, "the button's text says what it does"


def colors(theme: int) -> dict[str, str]:
    return {name: pair.split(", ")[theme] for name, pair in re.findall(r"--([\w-]+): light-dark\((.+?)\);", STYLE)}


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG's relative luminances."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_edges_stand_out(theme: int) -> None:
    found = colors(theme)
    for name in ("text", "quiet", "accent", "good", "bad", "unsure"):
        for ground in ("page", "card"):
            assert contrast(found[name], found[ground]) >= 4.5, f"1.4.3: {name} on {ground}"
    for ground in ("accent", "bad"):
        assert contrast(found["on-accent"], found[ground]) >= 4.5, f"1.4.3: a button's text on {ground}"
    for ground in ("page", "card"):
        assert contrast(found["edge"], found[ground]) >= 3.0, f"1.4.11: edges of inputs on {ground}"
    speakers = re.findall(r"\.speaker-\d \{ border-color: (#\w{6}); \}", STYLE)
    assert len(speakers) == len(set(speakers)) == 6
    for color in speakers:
        assert contrast(color, found["card"]) >= 3.0, f"1.4.11: {color}"
    assert "input, select { border: 1px solid var(--edge)" in STYLE
