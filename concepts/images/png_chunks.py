"""Metadata of PNG files that is too large for Pillow, which would refuse the picture for it."""

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK = 2**20
"""The bytes of text or of a colour profile that Pillow unpacks (PngImagePlugin.MAX_TEXT_CHUNK)."""
MAX_TEXTS = 64
"""Texts in one file; Pillow unpacks MAX_TEXT_CHUNK * 64 bytes in all."""
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def without_large_chunks(data: bytes) -> bytes:
    """A PNG file without the texts and colour profiles that are larger than a limit; other files as they are.

    Chunks are kept as they stand, also damaged ones, which Pillow judges.
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept, place, texts = [_SIGNATURE], len(_SIGNATURE), 0
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + length
        texts += kind in _TEXTS
        if not _is_too_large(kind, data[place + 8 : end - 4]) and not (kind in _TEXTS and texts > MAX_TEXTS):
            kept.append(data[place:end])
        place = end
    return b"".join(kept) + data[place:]


def _is_too_large(kind: bytes, content: bytes) -> bool:
    if kind == b"iCCP" or kind == b"zTXt":
        return _unpacks_too_far(content.partition(b"\0")[2][1:])
    if kind == b"iTXt":
        _, _, rest = content.partition(b"\0")
        packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        return _unpacks_too_far(text) if packed else len(text) > MAX_CHUNK
    return kind == b"tEXt" and len(content) > MAX_CHUNK


def _unpacks_too_far(packed: bytes) -> bool:
    try:
        return len(zlib.decompressobj().decompress(packed, MAX_CHUNK + 1)) > MAX_CHUNK
    except zlib.error:
        return False
