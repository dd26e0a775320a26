from __future__ import annotations

import io
import re

import pytest

from xvectors import progress as module
from xvectors.progress import progress_bar


def test_plain_lines_carry_an_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(float(t) for t in range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with progress_bar("working", 10, stream=stream) as shown:
        shown.note("loss 1.0")
        for _ in range(10):
            shown.advance()
    lines = stream.getvalue().splitlines()
    # the clock goes 10 s a piece and lines come at least 15 s apart: after pieces 2, 4, 6 and 8
    assert lines[0] == "working: 2/10 | 1:20 left | loss 1.0"
    assert [re.match(r"working: (\d+)/10", line)[1] for line in lines] == ["2", "4", "6", "8"]


def test_nothing_is_shown_when_disabled() -> None:
    stream = io.StringIO()
    with progress_bar("working", 3, enabled=False, stream=stream) as shown:
        shown.advance(3)
        shown.note("quiet")
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress_bar("working", 4, stream=stream) as shown:
        shown.advance(2)
        shown.note("half way")
    assert "working" in stream.getvalue()
    assert "2/4" in stream.getvalue()
