"""Text of messages: nouns that agree with their number, shortened lists, suggestions for unknown names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xvectors
from xvectors.text import agree, count, first_few, nearest


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


@pytest.mark.parametrize(
    ("num_names", "most", "expected"),
    [(0, 3, ""), (1, 3, "a"), (3, 3, "a, b, c"), (4, 3, "a, b, c, ..."), (4, 1, "a, ..."), (4, 4, "a, b, c, d")],
)
def test_long_lists_are_shortened(num_names: int, most: int, expected: str) -> None:
    assert first_few("abcd"[:num_names], most) == expected
    assert first_few(iter("abcd"[:num_names]), most, "; ") == expected.replace(", ", "; ")


def test_an_unknown_name_gets_the_most_similar_known_one() -> None:
    known = ["PLDA", "cosine", "lda_plda"]
    assert nearest("COSIN", known) == "; did you mean 'cosine'?"
    assert nearest("plda", known) == "; did you mean 'PLDA'?"
    assert nearest("x", known) == "; known are PLDA, cosine, lda_plda"
    assert nearest("x", known, otherwise="`xvectors speakers` lists them") == "; `xvectors speakers` lists them"
    assert nearest("x", known, otherwise="") == nearest("x", []) == ""


def test_one_function_suggests_names() -> None:
    package = Path(str(xvectors.__file__)).parent
    using = [path.name for path in sorted(package.rglob("*.py")) if "difflib" in path.read_text(encoding="utf-8")]
    assert using == ["text.py"]
