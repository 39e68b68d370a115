"""How much a compressed file may hold: what it unpacks to is not waited for without end."""

from __future__ import annotations

import zlib

# Bytes that a file may hold in memory: a factor of its size, and some beside it. Networks'
# parameters hardly compress; deflate makes up to a thousand zeros of a byte.
_EXPANSION, _ALLOWANCE = 100, 1 << 26


def most_bytes(size: int) -> int:
    """Bytes that a file of ``size`` bytes may hold when it is unpacked."""
    return _EXPANSION * size + _ALLOWANCE


def unpack(data: bytes | memoryview, most: int) -> bytes:
    """Unpack a zlib stream of at most ``most`` bytes.

    Raises
    ------
    ValueError
        If it holds more.
    zlib.error
        If it is damaged or cut off.
    """
    stream = zlib.decompressobj()
    content = stream.decompress(data, most + 1)
    if len(content) > most:
        raise ValueError(f"compressed data of more than {most} bytes, which no file so small has")
    if not stream.eof:
        raise zlib.error("incomplete or truncated stream")
    return content
