"""Damage to network files, drawn from a seed: the mutations of ``test_fuzz``.

Half of them do not look at what a file is: flipped bits, runs of other bytes, cut ends, inserted,
repeated and exchanged blocks, numbers with values that readers stumble over. The others know the
formats: byte counts, types, sizes and classes in the elements of MAT-files of version 5, inside
compressed data too, which is then compressed anew; and the superblock, object headers, groups and
heaps of HDF5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fuzz_values import other_value_hdf5, other_value_mat5

_MAT5_HEADER = 128
_TAG = 8
_MATRIX, _COMPRESSED = 14, 15
_HDF5_MARKS = (b"\x89HDF\r\n\x1a\n", b"TREE", b"HEAP", b"SNOD", b"GCOL", b"OHDR")
# How far behind a mark of HDF5 its structure is damaged.
_HDF5_REACH = 64
_UNDEFINED = 2**64 - 1

# What readers stumble over: limits of types, and sizes that memory is asked for.
_WHOLE = (0, 1, 2, 3, 7, 16, 100, 255, 256, 2**15, 2**16 - 1, 2**20, 2**24, 2**31 - 1, 2**31)
_LARGE = (2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
_FLOATS = (float("nan"), float("inf"), -float("inf"), 1e308, -1.0, 0.0, 0.5, 2.0**31, 2.0**62, 1e5)

Mutation = Callable[[bytes, np.random.Generator], bytes]


class _Place(NamedTuple):
    """A field of a file that says how what follows it is read."""

    start: int
    width: int


def mutate(content: bytes, seed: Sequence[int]) -> tuple[str, bytes]:
    """The name of a mutation, and the damaged content.

    Parameters
    ----------
    content : a whole network file
    seed : whole numbers; the same ones give the same damage
    """
    rng = np.random.default_rng(seed)
    mat5 = _is_mat5(content)
    draw = rng.random()
    if draw < 0.01:
        kinds = _WHOLE_FILE
    elif draw < 0.4:
        kinds = _BLIND
    elif draw < 0.75:
        kinds = _STRUCTURED_MAT5 if mat5 else _STRUCTURED_HDF5
    else:
        kinds = {"other values": other_value_mat5 if mat5 else other_value_hdf5}
    name = list(kinds)[int(rng.integers(len(kinds)))]
    return name, kinds[name](content, rng)


def _is_mat5(content: bytes) -> bool:
    return content[126:_MAT5_HEADER] in (b"IM", b"MI") and not content.startswith(b"MATLAB 7.3")


# Blind


def _at(content: bytes, rng: np.random.Generator) -> int:
    """A place; every second one lies near the beginning, where headers are."""
    reach = len(content) if rng.random() < 0.5 else min(len(content), 4096)
    return int(rng.integers(reach)) if reach else 0


def _length(rng: np.random.Generator, most: int) -> int:
    """A length, short ones as likely as long ones."""
    return int(min(most, 2 ** rng.uniform(0, np.log2(max(most, 2)))))


def _noise(rng: np.random.Generator, size: int) -> bytes:
    choice = rng.integers(4)
    if choice == 0:
        return bytes(size)
    if choice == 1:
        return b"\xff" * size
    return rng.integers(0, 256, size, dtype=np.uint8).tobytes()


def _flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        damaged[_at(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    start = _at(content, rng)
    size = _length(rng, len(content) - start)
    return content[:start] + _noise(rng, size) + content[start + size :]


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _at(content, rng)]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    start = _at(content, rng)
    return content[:start] + _noise(rng, _length(rng, 4096)) + content[start:]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    start = _at(content, rng)
    return content[:start] + content[start + _length(rng, 4096) :]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start = _at(content, rng)
    end = start + _length(rng, 4096)
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def _swap(content: bytes, rng: np.random.Generator) -> bytes:
    size = _length(rng, max(len(content) // 4, 1))
    a, b = sorted(int(rng.integers(max(len(content) - size, 1))) for _ in range(2))
    if b < a + size:
        return content[:a] + content[a : a + size][::-1] + content[a + size :]
    parts = content[:a], content[b : b + size], content[a + size : b], content[a : a + size]
    return b"".join(parts) + content[b + size :]


def _number(content: bytes, rng: np.random.Generator) -> bytes:
    start = _at(content, rng)
    if rng.random() < 0.8:
        start -= start % 4
    return _put(content, _Place(start, int(rng.choice([1, 2, 4, 8]))), rng)


def _put(content: bytes, place: _Place, rng: np.random.Generator) -> bytes:
    """Another number in a field: a notable one, or one near to what was there."""
    start, width = place
    old = int.from_bytes(content[start : start + width], "little")
    choice = rng.integers(5)
    if choice == 0:
        new = old + int(rng.integers(-8, 9))
    elif choice == 1:
        new = old * int(rng.integers(2, 9))
    elif choice == 2 and width == 8:
        return _write(content, start, struct.pack("<d", _FLOATS[int(rng.integers(len(_FLOATS)))]))
    elif choice == 3:
        new = int(rng.integers(len(content) + 1))
    else:
        values = (*_WHOLE, *_LARGE)
        new = values[int(rng.integers(len(values)))]
    return _write(content, start, (new % 2 ** (8 * width)).to_bytes(width, "little"))


def _write(content: bytes, start: int, new: bytes) -> bytes:
    return content[:start] + new + content[start + len(new) :]


# MAT-files of version 5 to 7


def _elements(content: bytes, start: int, end: int, depth: int = 0) -> list[tuple[int, int, int]]:
    """(place of the tag, type, bytes of data) of elements, and of those inside arrays."""
    found = []
    while start + _TAG <= end:
        kind, size = struct.unpack_from("<II", content, start)
        if kind >> 16:
            found.append((start, kind & 0xFFFF, kind >> 16))
            start += _TAG
            continue
        found.append((start, kind, size))
        if kind == _MATRIX:
            found += _elements(content, start + _TAG, start + _TAG + size, depth + 1)
        start += _TAG + size
        if kind != _COMPRESSED and depth:
            start += -start % _TAG
    return found


def _arrays(content: bytes, start: int) -> list[_Place]:
    """Fields of arrays that follow each other: counts, types, flags, class, size, names' length."""
    places = []
    elements = _elements(content, start, len(content))
    for position, (tag, kind, _) in enumerate(elements):
        places += [_Place(tag, 4), _Place(tag + 4, 4)]
        if kind != _MATRIX or position + 2 >= len(elements):
            continue
        flags, size = elements[position + 1], elements[position + 2]
        places += [_Place(flags[0] + _TAG + byte, 1) for byte in range(4)]
        places += [_Place(size[0] + _TAG + at, 4) for at in range(0, size[2], 4)]
        if position + 4 < len(elements):
            # The length of names of fields, in a small element, where the array is a struct.
            places.append(_Place(elements[position + 4][0] + 4, 4))
    return places


def _variables(content: bytes) -> list[tuple[int, int]]:
    """Place and size of compressed variables."""
    elements = _elements(content, _MAT5_HEADER, len(content))
    return [(tag, size) for tag, kind, size in elements if kind == _COMPRESSED]


def _inside(change: Mutation) -> Mutation:
    """A mutation of what a variable is compressed from; of the file where nothing is."""

    def mutation(content: bytes, rng: np.random.Generator) -> bytes:
        compressed = _variables(content)
        if not compressed:
            return content[:_MAT5_HEADER] + change(content[_MAT5_HEADER:], rng)
        tag, size = compressed[int(rng.integers(len(compressed)))]
        end = tag + _TAG + size
        packed = zlib.compress(change(zlib.decompress(content[tag + _TAG : end]), rng), 1)
        return content[:tag] + struct.pack("<II", _COMPRESSED, len(packed)) + packed + content[end:]

    return mutation


def _array_field(content: bytes, rng: np.random.Generator) -> bytes:
    places = _arrays(content, 0)
    for _ in range(int(rng.integers(1, 4))):
        content = _put(content, places[int(rng.integers(len(places)))], rng)
    return content


def _other_class(content: bytes, rng: np.random.Generator) -> bytes:
    """An array of another class than its content is of."""
    arrays = [tag for tag, kind, size in _elements(content, 0, len(content)) if kind == _MATRIX]
    at = arrays[int(rng.integers(len(arrays)))] + 2 * _TAG
    return _write(content, at, bytes([int(rng.integers(20))]))


def _other_size(content: bytes, rng: np.random.Generator) -> bytes:
    """An array of another size, of as many elements or not."""
    arrays = [tag for tag, kind, size in _elements(content, 0, len(content)) if kind == _MATRIX]
    at = arrays[int(rng.integers(len(arrays)))] + 4 * _TAG
    size = list(struct.unpack_from("<2i", content, at)) if at + _TAG <= len(content) else [0, 0]
    if rng.random() < 0.5:
        size.reverse()
    else:
        size[int(rng.integers(2))] = int(rng.choice([0, 1, 2, 5, 1000, 2**20, 2**31 - 1, -1]))
    return _write(content, at, struct.pack("<2i", *size))


def _exchange_elements(content: bytes, rng: np.random.Generator) -> bytes:
    """Two elements of the same size, wherever they stand."""
    by_size: dict[int, list[int]] = {}
    for tag, _, size in _elements(content, 0, len(content)):
        by_size.setdefault(size, []).append(tag)
    groups = [tags for tags in by_size.values() if len(tags) > 1]
    if not groups:
        return _swap(content, rng)
    tags = groups[int(rng.integers(len(groups)))]
    size = struct.unpack_from("<I", content, tags[0] + 4)[0] % (len(content) + 1)
    a, b = (tags[int(rng.integers(len(tags)))] for _ in range(2))
    first, second = content[a : a + _TAG + size], content[b : b + _TAG + size]
    return _write(_write(content, a, second), b, first)[: len(content)]


# HDF5


def _places_of(content: bytes, mark: bytes) -> list[int]:
    places, start = [], content.find(mark)
    while start >= 0:
        places.append(start)
        start = content.find(mark, start + 1)
    return places


def _behind_mark(*marks: bytes) -> Mutation:
    """Another number in a structure that begins with one of these marks."""

    def mutation(content: bytes, rng: np.random.Generator) -> bytes:
        places = [place for mark in marks for place in _places_of(content, mark)]
        if not places:
            return _number(content, rng)
        for _ in range(int(rng.integers(1, 4))):
            width = int(rng.choice([1, 2, 4, 8]))
            at = places[int(rng.integers(len(places)))] + int(rng.integers(_HDF5_REACH))
            content = _put(content, _Place(at - at % width, width), rng)
        return content

    return mutation


def _headers(content: bytes) -> list[int]:
    """Object headers of version 1, wherever they stand."""
    places = []
    for place in range(0, len(content) - 16, 8):
        version, zero, messages, references, size = struct.unpack_from("<BBHII", content, place)
        if (version, zero, references) == (1, 0, 1) and 0 < messages < 99 and 16 < size < 2**16:
            places.append(place)
    return places


def _object_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Another number in an object header or its messages: space, type, layout, attributes."""
    places = _headers(content) or [0]
    for _ in range(int(rng.integers(1, 4))):
        place = places[int(rng.integers(len(places)))]
        size = struct.unpack_from("<I", content, place + 8)[0] if len(content) > place + 12 else 0
        width = int(rng.choice([1, 2, 4, 8]))
        at = place + int(rng.integers(16 + min(size, 1024)))
        content = _put(content, _Place(at - at % width, width), rng)
    return content


def _exchange_references(content: bytes, rng: np.random.Generator) -> bytes:
    """An address in place of another: a reference to itself, to a parent, to another kind."""
    addresses = [place - 512 for place in _headers(content)] or [0]
    packed = [struct.pack("<Q", address % 2**64) for address in addresses]
    for _ in range(int(rng.integers(1, 4))):
        old, new = (packed[int(rng.integers(len(packed)))] for _ in range(2))
        places = _places_of(content, old)
        if places:
            content = _write(content, places[int(rng.integers(len(places)))], new)
    return content


# Whole files


def _garbage(content: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes, behind no header, or that of the file."""
    header = content[: int(rng.choice([0, _MAT5_HEADER, 520, 608]))]
    return header + rng.integers(0, 256, int(rng.integers(1, 20_000)), dtype=np.uint8).tobytes()


_BLIND: dict[str, Mutation] = {
    "flipped bits": _flip_bits,
    "other bytes": _overwrite,
    "cut": _truncate,
    "inserted": _insert,
    "removed": _remove,
    "repeated": _repeat,
    "exchanged": _swap,
    "another number": _number,
}
_STRUCTURED_MAT5: dict[str, Mutation] = {
    "field of an array": _inside(_array_field),
    "another class": _inside(_other_class),
    "another size": _inside(_other_size),
    "exchanged elements": _inside(_exchange_elements),
    **{f"{name}, unpacked": _inside(_BLIND[name]) for name in ("flipped bits", "another number")},
    **{f"{name}, unpacked": _inside(_BLIND[name]) for name in ("other bytes", "cut", "repeated")},
}
_STRUCTURED_HDF5: dict[str, Mutation] = {
    "superblock": _behind_mark(_HDF5_MARKS[0]),
    "group or heap": _behind_mark(*_HDF5_MARKS[1:]),
    "object header": _object_header,
    "exchanged references": _exchange_references,
}
_WHOLE_FILE: dict[str, Mutation] = {"empty": lambda content, rng: b"", "garbage": _garbage}
