"""Numbers in sentences take the right form of the words beside them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xvectors
from xvectors.text import agree, count


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 test speakers are"),
        (1, "1 test speaker is"),
        (2, "2 test speakers are"),
        (1200, "1,200 test speakers are"),
    ],
)
def test_nouns_and_verbs_agree_with_their_number(number: int, expected: str) -> None:
    assert f"{count(number, 'test speaker')} {agree(number, 'is', 'are')}" == expected


def test_there_is_one_function_that_counts() -> None:
    package = Path(str(xvectors.__file__)).parent
    own = [
        f"{path.relative_to(package)}: {node.name}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.strip("_") in {"count", "plural", "pluralize", "agree"}
        if [argument.annotation and ast.unparse(argument.annotation) for argument in node.args.args][:1] == ["int"]
    ]
    assert own == ["text.py: count", "text.py: agree"]
