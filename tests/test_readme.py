"""What the README shows, run: its two commands and its first Python snippet, with the output below it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.documents import ROOT, PageRun, blocks_of
from xvectors.corpus.synth import synthesize

README = ROOT / "README.md"


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings of one synthetic voice, as a.wav and b.wav in the current folder."""
    synthesize(tmp_path / "voices", speakers=1, utterances=2, audio_format="wav", workers=1)
    for name, number in (("a.wav", 0), ("b.wav", 1)):
        shutil.copy(tmp_path / "voices" / "synth-0000" / f"synth-0000-00{number}.wav", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_python_snippet_prints_what_is_below_it(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python, shown = [block for block in blocks_of(README) if block.language in ("python", "")][:2]
    exec(python.text, {})
    printed = capsys.readouterr().out
    pattern = r"(.*): LLR ([-+\d.]+), probability ([\d.]+)\n(.*)\n"
    (answer, llr, probability, shape), expected = (
        re.fullmatch(pattern, each).groups() for each in (printed, shown.text)
    )
    assert (answer, shape) == (expected[0], expected[3])
    assert float(llr) == pytest.approx(
        float(expected[1]), abs=0.5
    )  # other releases of espeak-ng read a little otherwise
    assert float(probability) == pytest.approx(float(expected[2]), abs=0.002)


def test_the_commands_run(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` takes minutes and is tested elsewhere; here it is only asked for its help."""

    def shorten(arguments: Sequence[str]) -> list[str]:
        return ["demo", "--help"] if arguments == ["demo", "-o", "try"] else list(arguments)

    page_run = PageRun(monkeypatch, shorten, {})
    commands = [block for block in blocks_of(README) if block.language == "sh"]
    page_run.run(commands)
    assert page_run.count == 2
    assert page_run.printed.startswith("same speaker\n")
    assert "xvectors demo" in page_run.printed


def test_the_rest_of_its_python_is_a_script_that_another_test_runs() -> None:
    scripts = [block.text for block in blocks_of(README) if block.language == "python"][1:]
    assert [re.findall(r"\b(train|evaluate)\(", script) for script in scripts] == [["train", "evaluate"]]
    assert "the_script_of_the_readme" in (ROOT / "tests" / "test_worker_processes.py").read_text(encoding="utf-8")
