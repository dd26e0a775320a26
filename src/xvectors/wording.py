"""Numbers in sentences. In: a number and English words. Out: the words in the form that the number takes."""

from __future__ import annotations


def count(number: int, thing: str) -> str:
    """A number of things whose plural ends in s.

    >>> count(1, "speaker"), count(1200, "test speaker")
    ('1 speaker', '1,200 test speakers')
    """
    return f"{number:,} {thing}{agree(number, '', 's')}"


def agree(number: int, one: str, more: str) -> str:
    """The words that go with one thing, or with more or none.

    >>> agree(1, "is", "are"), agree(0, "is", "are")
    ('is', 'are')
    """
    return one if number == 1 else more
