"""The page of a diarization: what it holds, that it asks the network for nothing, and that names stay text."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support.commands import run
from xvectors.audio.recording import open_recording
from xvectors.diarization import Diarization, Turn, write_turns
from xvectors.diarization.page import write_page
from xvectors.diarization.page.peaks import MOST_PEAKS, find_peaks
from xvectors.diarization.page.writing import NUM_COLORS, render_page

RATE = 16_000
TURNS = (
    Turn(start_s=0.5, end_s=2.0, speaker="speaker_1", name="Ann </script><b>"),
    Turn(start_s=1.5, end_s=2.75, speaker="speaker_2"),
)
PAGE = files("xvectors.diarization.page")


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    seconds = np.arange(3 * RATE) / RATE
    soundfile.write(tmp_path / "my call.wav", 0.25 * np.sin(2 * np.pi * 440 * seconds) * (seconds > 1), RATE)
    return tmp_path / "my call.wav"


def test_the_page_holds_turns_sound_and_peaks(tone: Path, tmp_path: Path) -> None:
    found = Diarization(recording="my call", turns=TURNS, two_voices={"speaker_2": -5.5})
    path = write_page(tmp_path / "page.html", found, open_recording(tone, waveform_rate_hz=RATE), source=tone)
    data = data_of(path.read_text(encoding="utf-8"))
    assert data["turns"] == [[0.5, 2.0, "speaker_1"], [1.5, 2.75, "speaker_2"]]
    assert [(each["id"], each["label"]) for each in data["speakers"]] == [
        ("speaker_1", "Ann </script><b>"),
        ("speaker_2", "speaker_2"),
    ]
    assert data["speakers"][1]["notes"] == ["sounds like two voices (LLR -5.5 between halves)"]
    assert (data["recording"], data["file"], data["duration"]) == ("my_call", "my call.wav", 3.0)
    assert data["peaks"][:19] == [0] * 19
    assert min(data["peaks"][21:]) >= 99
    kind, _, sound = data["audio"].partition(",")
    assert kind == "data:audio/mpeg;base64"
    (tmp_path / "sound.mp3").write_bytes(base64.b64decode(sound))
    samples, rate = soundfile.read(tmp_path / "sound.mp3")
    assert rate == RATE
    assert len(samples) / rate == pytest.approx(3.0, abs=0.1)


def test_a_long_recording_is_played_from_its_place(tone: Path, tmp_path: Path) -> None:
    found, sound = Diarization(recording="my call", turns=TURNS), open_recording(tone, waveform_rate_hz=RATE)
    path = write_page(tmp_path / "out" / "page.html", found, sound, source=tone, embed_s=2.0)
    assert data_of(path.read_text(encoding="utf-8"))["audio"] == "./../my%20call.wav"
    path = write_page(tmp_path / "page.html", found, sound, embed_s=2.0)
    page = path.read_text(encoding="utf-8")
    assert data_of(page)["audio"] == ""
    assert 'id="play"' not in page


def test_names_are_text_and_nothing_comes_from_the_network() -> None:
    page = render_page(Diarization(recording="<i>x</i>", turns=TURNS), [0.5], 3.0, "")
    assert page.count("</script>") == 2
    assert "<b>" not in page
    assert "<i>" not in page
    assert html.escape("<i>x</i>") in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    script = PAGE.joinpath("page.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", script)


def luminance(color: str) -> float:
    """Relative luminance of a color as #rrggbb (WCAG 2.2)."""
    values = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colors_of_speakers_stand_out_in_light_and_dark() -> None:
    """3:1 for graphics and 4.5:1 for text are WCAG's least contrasts."""
    css = PAGE.joinpath("page.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        assert len([name for name in colors if re.fullmatch(r"s\d", name)]) == NUM_COLORS
        paper = luminance(colors["paper"])
        for name, color in colors.items():
            ratio = (max(paper, luminance(color)) + 0.05) / (min(paper, luminance(color)) + 0.05)
            least = 3.0 if re.fullmatch(r"s\d|head", name) else 4.5 if name in {"ink", "muted", "link", "mark"} else 1.0
            assert ratio >= least, f"{name} {color}: {ratio:.2f}"


@pytest.mark.parametrize(("seconds", "number"), [(0.0, 0), (0.26, 6), (31.0, 620), (400.0, MOST_PEAKS)])
def test_peaks_cover_the_recording(seconds: float, number: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * 1000)).astype(np.float32)
    peaks, duration_s = find_peaks(open_recording(samples, waveform_rate_hz=1000))
    assert (len(peaks), duration_s) == (number, pytest.approx(seconds))
    assert ((peaks >= 0.5) & (peaks <= 1)).all()
    silent, _ = find_peaks(open_recording(np.zeros(100, np.float32), waveform_rate_hz=1000))
    assert not silent.any()


def test_a_knock_does_not_flatten_the_speech() -> None:
    samples = np.full(20_000, 0.1, dtype=np.float32)
    samples[5000] = 1.0
    peaks, _ = find_peaks(open_recording(samples, waveform_rate_hz=1000))
    np.testing.assert_allclose(peaks, 1.0, rtol=1e-6)


def test_the_command_writes_the_page(tone: Path, tmp_path: Path) -> None:
    write_turns(tmp_path, "my call", [Turn(start_s=1.0, end_s=2.0, speaker="speaker_1")])
    arguments = ("diarize", tone, "--turns", tmp_path / "my call.rttm", "--html")
    printed = run(*arguments, "--rename", "speaker_1=Ann Lee").stdout
    assert printed.splitlines()[-1] == f"written: {tmp_path / 'my call.html'}"
    page = (tmp_path / "my call.html").read_text(encoding="utf-8")
    assert data_of(page)["speakers"] == [{"id": "Ann Lee", "label": "Ann Lee", "notes": []}]
    assert "my call.html exists" in run(*arguments, status=2).stderr
