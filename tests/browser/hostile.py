"""Files that strangers may upload: broken, huge, disguised, or only unusual."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

Size = tuple[int, int]


@dataclass(frozen=True)
class Upload:
    """A file, and the size of the picture that it becomes: None if it must be refused, () if either will do."""

    name: str
    data: bytes
    becomes: Size | tuple[()] | None


def picture(chance: random.Random, mode: str = "RGB", size: Size = (96, 72)) -> Image.Image:
    """Noise in a picture's clothes."""
    noise = Image.frombytes("L", size, chance.randbytes(size[0] * size[1]))
    return noise.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def truncated(chance: random.Random, number: int) -> Upload:
    """A file that ends too early, somewhere."""
    kind = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")[number % 6]
    data = encoded(picture(chance), kind)
    return Upload(f"cut.{kind.lower()}", data[: chance.randrange(len(data) * 9 // 10)], None)


def garbled(chance: random.Random, number: int) -> Upload:
    """A file some of whose bytes are others."""
    data = bytearray(encoded(picture(chance), ("PNG", "JPEG", "TIFF", "GIF")[number % 4]))
    for _ in range(30):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return Upload("garbled.png", bytes(data), ())


def bomb(chance: random.Random, number: int) -> Upload:
    """A small PNG file that says that it is enormous; every other one really is."""
    side = chance.randrange(9_000, 60_000)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    squeezed = zlib.compressobj(9)
    rows = b"".join(squeezed.compress(bytes(side + 1)) for _ in range(2000 if number % 2 else 1)) + squeezed.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return Upload("bomb.png", data, None)


def disguised(chance: random.Random, number: int) -> Upload:
    """No picture at all, under the name of one."""
    kinds = (
        b"", b"%PDF-1.7\n1 0 obj", b"PK\x03\x04" + chance.randbytes(200), b"MZ" + chance.randbytes(300),
        b"#!/bin/sh\nrm -rf /\n", b"<html><script>alert(1)</script></html>", chance.randbytes(5000),
        b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"GIF89a" + chance.randbytes(100),
        b"\xff\xd8\xff" + chance.randbytes(50),
    )  # fmt: skip
    return Upload(f"photo.{('png', 'jpg', 'webp')[number % 3]}", kinds[number % len(kinds)], None)


def svg(chance: random.Random, number: int) -> Upload:
    """A drawing, which may run scripts and read files."""
    text = (
        '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="{number + 70}">'
        "<script>1</script><text>&x;</text></svg>"
    )
    return Upload(("drawing.svg", "drawing.png")[number % 2], text.encode(), None)


def hostile_name(chance: random.Random, number: int) -> Upload:
    """A good picture whose name means harm."""
    names = (
        "../../../../etc/cron.d/x.png", "..\\..\\x.png", "/etc/passwd.png", "<img src=x onerror=alert(1)>.png",
        "x" * 300 + ".png", "nul.png", "\u202egnp.exe.png", "a\nb.png", "'; DROP TABLE concepts; --.png",
        "%2e%2e%2fx.png", ".png", "пёс 犬 🐕.png", "$(reboot).png", "{{ 7 * 7 }}.png", "two  spaces .png",
    )  # fmt: skip
    return Upload(names[number % len(names)], encoded(picture(chance), "PNG"), (96, 72))


def animated(chance: random.Random, number: int) -> Upload:
    """Several frames, of which the first is the picture."""
    kind = ("GIF", "WEBP", "PNG")[number % 3]
    others = [picture(chance) for _ in range(2 + number % 5)]
    return Upload(
        f"moving.{kind.lower()}", encoded(picture(chance), kind, save_all=True, append_images=others), (96, 72)
    )


def unusual(chance: random.Random, number: int) -> Upload:
    """Colours that few programs write: CMYK, 16 bits, palettes, one bit, grey with alpha."""
    modes = (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("I;16", "PNG"), ("I;16", "TIFF"), ("P", "PNG"), ("1", "PNG"),
             ("LA", "PNG"), ("RGBA", "WEBP"), ("L", "JPEG"), ("YCbCr", "TIFF"))  # fmt: skip
    mode, kind = modes[number % len(modes)]
    image = picture(chance).convert("L").convert("I;16") if mode == "I;16" else picture(chance, "RGB").convert(mode)
    if mode != "YCbCr":
        return Upload(f"odd.{kind.lower()}", encoded(image, kind), (96, 72))
    if number // len(modes) % 2:  # Pillow cannot read such a file when nothing in it is compressed
        return Upload("odd.tiff", encoded(image, kind), None)
    return Upload("odd.tiff", encoded(image, kind, compression="tiff_lzw"), (96, 72))


def rotated(chance: random.Random, number: int) -> Upload:
    """A photo that lies, and says in its EXIF data how it stands."""
    exif, way = Image.Exif(), number % 8 + 1
    exif[0x0112] = way
    return Upload("turned.jpg", encoded(picture(chance), "JPEG", exif=exif), (96, 72) if way < 5 else (72, 96))


def sized(chance: random.Random, number: int) -> Upload:
    """Too small, or very long."""
    side = number + 1
    if number % 2:
        return Upload("thread.png", encoded(Image.new("RGB", (64, 64 * side)), "PNG"), (64, 64 * side))
    return Upload("tiny.png", encoded(picture(chance, size=(side, 96)), "PNG"), None)


KINDS: tuple[Callable[[random.Random, int], Upload], ...] = (
    truncated, garbled, bomb, disguised, svg, hostile_name, animated, unusual, rotated, sized,
)  # fmt: skip


def uploads(each: int = 30, seed: int = 0) -> Iterator[Upload]:
    """So many of each kind."""
    chance = random.Random(seed)
    for number in range(each):
        for kind in KINDS:
            yield kind(chance, number)
