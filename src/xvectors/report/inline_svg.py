"""Turn a matplotlib figure into SVG that stands inside the page and takes the page's colors, light or dark."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from xvectors.report import style
from xvectors.report.formats import clean

VARIABLES = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.GRID: "var(--line)",
    style.PAPER: "var(--paper)",
    style.TARGET: "var(--target)",
    style.NONTARGET: "var(--nontarget)",
    style.POINT: "var(--point)",
}
"""The pictures' colors of roles and the variables of page.css that replace them."""
_COLOR = re.compile("|".join(VARIABLES))
_FONT_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def inline_svg(
    figure: Figure,
    name: str,
    label: str,
    *,
    tips: Mapping[str, Sequence[str]] | None = None,
    texts: Mapping[str, str] | None = None,
) -> str:
    """Draw the figure as an SVG element without outside references, the same for the same figure.

    Parameters
    ----------
    name
        Unique on the page; ids inside the picture start with it.
    label
        What screen readers say.
    tips
        By the gid of a line, what hovering over each of its markers shows.
    texts
        By the gid of a text, what to write instead: names in scripts that matplotlib's font lacks and the reader's has.
    """
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    root = ElementTree.fromstring(written.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    for group in root.iter("g"):
        gid = group.get("id", "")
        if tips and gid in tips:
            for marker, tip in zip(list(group.iter("use")), tips[gid], strict=True):
                ElementTree.SubElement(marker, "title").text = clean(tip)
        if texts and gid in texts and (text := group.find("text")) is not None:
            text.text = clean(texts[gid])
    for defs in root.findall("defs"):
        if defs.find("style") is not None:  # a rule for every element of the page; page.css has it for pictures
            root.remove(defs)
    _shorten_ids(root, name)
    for element in root.iter():
        _simplify(element)
    for group in root.iter("g"):
        _share_style(group)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": clean(label)}
    return ElementTree.tostring(root, encoding="unicode")


def _shorten_ids(root: ElementTree.Element, name: str) -> None:
    """Number the ids that something refers to, and drop the others."""
    new: defaultdict[str, str] = defaultdict(lambda: f"{name}-{len(new) + 1}")
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key.endswith("href"):
                del element.attrib[key]
                element.attrib = {"href": f"#{new[value[1:]]}"} | element.attrib
            elif key == "clip-path":
                element.set(key, _REFERENCE.sub(lambda found: f"url(#{new[found[1]]})", value))
    for element in root.iter():
        old = element.attrib.pop("id", "")
        if old in new:
            element.set("id", new[old])


def _simplify(element: ElementTree.Element) -> None:
    """Set colors by variables, take the page's font, and round to a tenth of a point."""
    for key, value in element.attrib.items():
        if key == "style":
            element.set(key, _FONT_FAMILY.sub("", _COLOR.sub(lambda found: VARIABLES[found[0]], value)))
        elif key in ("d", "x", "y", "transform", "width", "height"):
            rounded = _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
            element.set(key, " ".join(rounded.split()))
    if element.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
        del element.attrib["transform"]
    if element.text and not element.text.strip():
        element.text = None
    element.tail = None


def _share_style(group: ElementTree.Element) -> None:
    """Move the style that all markers of a group have to the group."""
    styles = {child.get("style", "") for child in group}
    if len(group) > 1 and len(styles) == 1 and all(child.tag == "use" for child in group):
        group.set("style", styles.pop())
        for child in group:
            del child.attrib["style"]
