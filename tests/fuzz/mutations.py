"""Seeded damage to files. In: bytes that are right, a generator of chance. Out: bytes that may not be."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

TOKENS = (
    *(
        b"nan",
        b"NaN",
        b"inf",
        b"-inf",
        b"1e999",
        b"-1",
        b"0",
        b"-0.0",
        b"1e-320",
        b"9" * 25,
        b"9" * 5000,
        b"0x7f",
        b"1_0",
    ),
    *(b"18446744073709551615", b"9223372036854775807", b"2147483648", b"null", b"true", b"\xc2\xb2", b"\xd9\xa3"),
    *(b"\x00", b"\x1b[2J", b"\x07", b"\x0c", b"\x1c", b"\r", b"\n", b"\r\n", b"\t", b"\xe2\x80\xae", b"\xe2\x80\xa8"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3\x28", b"\xed\xb2\x80", b'"', b"'", b"'''", b"\\", b"\\ud800", b"="),
    *(
        b",",
        b";",
        b" ",
        b"|",
        b"../",
        b"/dev/null",
        b"=1+1",
        b"{",
        b"}",
        b"[",
        b"]",
        b"[[",
        b"#",
        b"\\N{",
        b"%s",
        b"$(",
    ),
)
"""What parsers trip over: numbers that are none or too large, control and bidi characters, bad UTF-8, quotes, paths."""
NESTINGS = (b"[", b"{", b"(", b'{"a":', b"[[a.", b"a.", b"a={", b"-", b'"')
EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")
LONG = 200_000

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], bytearray]


def flip_bits(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def set_bytes(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    """Extremes over a number's width, where binary formats have lengths and offsets; half of the time near an end."""
    width = rng.choice((1, 2, 4, 8))
    place = rng.choice((len(data), len(data), min(64, len(data))))
    at = rng.randrange(place) if rng.random() < 0.7 else max(0, len(data) - 1 - rng.randrange(min(300, len(data))))
    data[at : at + width] = rng.choice(EXTREMES) * width
    return data


def truncate(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    return data[: rng.randrange(len(data))]


def drop_block(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 1 + min(len(data), 512))]
    return data


def repeat_block(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    at, size = rng.randrange(len(data)), rng.randrange(1, 1 + min(len(data), 512))
    data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
    return data


def swap_blocks(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    one, other = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    return data[other:] + data[one:other] + data[:one]


def splice(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    """The beginning of this, the end of another."""
    other = rng.choice(donors)
    return data[: rng.randrange(len(data))] + other[rng.randrange(1 + len(other)) :]


def insert_token(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    at = rng.randrange(1 + len(data))
    data[at:at] = rng.choice(TOKENS)
    return data


def replace_word(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    """A number, name or cell of a text becomes another thing."""
    at = rng.randrange(len(data))
    start, end = at, at
    while start > 0 and _is_word(data[start - 1]):
        start -= 1
    while end < len(data) and _is_word(data[end]):
        end += 1
    data[start:end] = rng.choice(TOKENS)
    return data


def lengthen_line(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    at = rng.randrange(1 + len(data))
    data[at:at] = rng.choice((b"a", b"9", b" ", b",", b"\xc3\xa9")) * LONG
    return data


def nest(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    at = rng.choice((0, rng.randrange(1 + len(data)), len(data)))
    data[at:at] = rng.choice((b"", b"x = ", b"\n")) + rng.choice(NESTINGS) * rng.choice((50, 2000, 20_000))
    return data


def begin_with_bom(data: bytearray, rng: random.Random, donors: Sequence[bytes]) -> bytearray:
    return bytearray(rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00\x00\xfe\xff"))) + data


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, flip_bits, set_bytes, set_bytes, truncate, drop_block, repeat_block, swap_blocks, splice),
    *(insert_token, insert_token, replace_word, replace_word, replace_word, lengthen_line, nest, begin_with_bom),
)


def mutate(data: bytes, rng: random.Random, donors: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four mutations, spliced with `donors` among others."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        changed = rng.choice(MUTATIONS)(changed, rng, donors or (data,))
    return bytes(changed)


def _is_word(byte: int) -> bool:
    return byte > 127 or chr(byte).isalnum() or chr(byte) in "._-+"
