"""The palette under normal and color-blind vision, and who gets which color."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray

from xvectors.report import colors

# Machado, Oliveira and Fernandes, IEEE TVCG 2009: full protanopia and deuteranopia, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def linear(hexes: tuple[str, ...] | list[str]) -> NDArray[np.float64]:
    rgb = np.array([to_rgb(color) for color in hexes])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def cielab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* of linear sRGB, white point D65."""
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [*LUMINANCE], [0.0193339, 0.1191920, 0.9503041]])
    xyz = rgb.clip(0, 1) @ to_xyz.T / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


PAPERS = {colors.PAPER: colors.SPEAKERS, colors.DARK_PAPER: colors.DARK_SPEAKERS}


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize(("vision", "least"), [("normal", 33), ("protanopia", 15), ("deuteranopia", 15)])
def test_all_twenty_colors_can_be_told_apart(paper: str, vision: str, least: float) -> None:
    # In CIELAB a distance of 2.3 is just noticeable.
    def closest(hexes: tuple[str, ...]) -> float:
        lab = cielab(linear(hexes) @ VISION[vision].T)
        distances = np.linalg.norm(lab[:, None] - lab, axis=2) + np.diag(np.full(len(lab), np.inf))
        return float(distances.min())

    assert len(PAPERS[paper]) == 20
    assert closest(PAPERS[paper]) > least
    tab20 = tuple(to_hex(color) for color in colormaps["tab20"].colors)
    assert closest(PAPERS[paper]) > 2 * closest(tab20)


@pytest.mark.parametrize("paper", PAPERS)
def test_colors_stand_out_on_their_paper(paper: str) -> None:
    inks, ground = linear(PAPERS[paper]) @ LUMINANCE + 0.05, linear((paper,)) @ LUMINANCE + 0.05
    assert (np.maximum(inks, ground) / np.minimum(inks, ground)).min() >= 3  # WCAG 2.1, 1.4.11


def test_the_page_is_dark_on_the_paper_that_the_dark_colors_are_for() -> None:
    css = files("xvectors.report").joinpath("page.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    assert f"--paper: {colors.PAPER};" in light
    assert dark.index(f"--paper: {colors.DARK_PAPER};") < dark.index("}")


def test_names_can_be_read() -> None:
    inks = [colors.darker(color) for color in colors.SPEAKERS]
    assert (1.05 / (linear(inks) @ LUMINANCE + 0.05)).min() > 4.5  # WCAG 2 AA for text


def test_darker_by_hand() -> None:
    assert colors.darker("#ff960a") == "#995a06"


def test_twenty_speakers_get_twenty_colors_in_order() -> None:
    centers = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_array_equal(colors.speaker_colors(centers), np.arange(20))


def test_a_color_is_taken_again_where_its_bearer_is_farthest() -> None:
    on_a_line = np.stack([np.arange(21.0), np.zeros(21)], axis=1)
    on_a_line[20] = [0.5, 0]
    assert colors.speaker_colors(on_a_line)[20] == 19


def test_neighbors_among_two_hundred_speakers_differ_in_color() -> None:
    centers = np.random.default_rng(0).uniform(-50, 50, size=(200, 2))
    chosen = colors.speaker_colors(centers)
    distances = np.linalg.norm(centers[:, None] - centers, axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:5]
    assert (chosen[nearest] != chosen[:, None]).all()
    assert np.bincount(chosen).max() <= 20


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("id10001", "id10001"),
        ("a" * 24, "a" * 24),
        ("a" * 20 + "b" * 20, "a" * 11 + "…" + "b" * 11),
        ("two\nlines\there", "two lines here"),
        ("café", "café"),
        ("说话人", "\N{REPLACEMENT CHARACTER}" * 3),
    ],
)
def test_names_are_shortened_and_drawable(name: str, shown: str) -> None:
    assert colors.short(name) == shown
