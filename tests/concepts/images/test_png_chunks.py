"""PNG files with more metadata than Pillow takes are read; formats of phones and browsers are, too."""

import io
import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from concepts import LibraryError
from concepts.images import upload_checks
from concepts.images.png_chunks import MAX_CHUNK, MAX_TEXTS, without_large_chunks
from concepts.images.upload_checks import read_picture

LONG = b"w" * (MAX_CHUNK + 1)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(*chunks: bytes) -> bytes:
    """A red PNG file with these chunks before its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    data = buffer.getvalue()
    place = data.index(b"IDAT") - 4
    return data[:place] + b"".join(chunks) + data[place:]


@pytest.mark.parametrize(
    "large",
    [
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(LONG)),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"prompt\0\0\0\0\0" + LONG),
        chunk(b"tEXt", b"prompt\0" + LONG),
    ],
)
def test_metadata_beyond_the_limit_is_dropped_and_the_picture_taken(large: bytes):
    small = chunk(b"tEXt", b"a\0b")
    assert without_large_chunks(with_chunks(large, small)) == with_chunks(small)
    assert read_picture(with_chunks(large), "p").getpixel((0, 0)) == (255, 0, 0)


def test_many_texts_are_dropped_and_other_data_stays_as_it_is():
    texts = [chunk(b"tEXt", b"a\0b")] * (MAX_TEXTS + 5)
    assert without_large_chunks(with_chunks(*texts)) == with_chunks(*texts[:MAX_TEXTS])
    for data in (
        b"",
        b"GIF89a",
        with_chunks()[:50],
        with_chunks() + b"tail",
        with_chunks(chunk(b"iCCP", b"p\0\0junk")),
    ):
        assert without_large_chunks(data) == data


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_pictures_of_phones_and_browsers_are_read(kind: str):
    assert upload_checks._reads_heif()
    buffer = io.BytesIO()
    Image.new("RGB", (80, 64), (200, 30, 40)).save(buffer, kind)
    picture = read_picture(buffer.getvalue(), "p")
    assert picture.size == (80, 64)
    assert all(abs(a - b) < 8 for a, b in zip(picture.getpixel((40, 32)), (200, 30, 40), strict=True))  # type: ignore[arg-type]


def test_without_its_library_a_heic_picture_names_it(tmp_path: Path, monkeypatch):
    buffer = io.BytesIO()
    assert upload_checks._reads_heif()
    Image.new("RGB", (80, 64)).save(buffer, "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    upload_checks._reads_heif.cache_clear()
    with pytest.raises(LibraryError, match=r"pillow-heif is not installed\. Run uv sync --extra heic"):
        read_picture(buffer.getvalue(), "IMG_1.HEIC")
    upload_checks._reads_heif.cache_clear()
