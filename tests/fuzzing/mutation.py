"""Damaged copies of valid files: cut, flipped, spliced, with absurd numbers; and texts with absurd words."""

from __future__ import annotations

import random

_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 64) - 1,
)
_WORDS = (
    b"", b"nan", b"-inf", b"1e400", b"-1", b"0", b"1.5", b"99999999999999999999", b"x", b"\xc3\xa9", b"\xff", b"\0",
    b"#", b"\n", b"\r", b" ", b"\t", b"\x1c", b"\xe2\x80\xa8", b'"', b"{}", b"[]", b"null", b"NaN", b"\xd9\xa3",
    b"\xc2\xb2", b"1_0", b"True", b"../..", b"/",
)  # fmt: skip


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A damaged copy; one to four changes of any kind."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    """Any place, often near the beginning, where headers are."""
    end = min(len(data), 512) if rng.random() < 0.3 else len(data)
    return rng.randrange(end + 1)


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 3, 30))):
        if data:
            data[rng.randrange(len(data)) if rng.random() < 0.7 else min(_place(data, rng), len(data) - 1)] ^= (
                1 << rng.randrange(8)
            )


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    start = _place(data, rng)
    del data[start : start + rng.choice((1, 2, 8, 100, 1000))]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = _place(data, rng)
    piece = data[start : start + rng.choice((1, 4, 8, 100, 1000))]
    to = _place(data, rng)
    data[to:to] = piece * rng.choice((1, 1, 2, 50))


def _overwrite(data: bytearray, rng: random.Random) -> None:
    start, size = _place(data, rng), rng.choice((1, 8, 64, 512, 4096))
    piece = bytes(size) if rng.random() < 0.4 else rng.randbytes(size)
    data[start : start + size] = piece[: max(0, len(data) - start)]


def _number(data: bytearray, rng: random.Random) -> None:
    size, start = rng.choice((1, 2, 4, 8)), _place(data, rng)
    value = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    data[start : start + size] = value.to_bytes(size, rng.choice(("little", "little", "big")))


def _word(data: bytearray, rng: random.Random) -> None:
    words = bytes(data).split(b" ")
    words[rng.randrange(len(words))] = rng.choice(_WORDS)
    data[:] = b" ".join(words)


def _line(data: bytearray, rng: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[i], lines[j] = lines[j], lines[i]
    elif rng.random() < 0.5:
        lines.insert(i, lines[j])
    else:
        del lines[i]
    data[:] = b"\n".join(lines)


_CHANGES = (_flip_bits, _flip_bits, _cut, _remove, _repeat, _overwrite, _number, _word, _line)
