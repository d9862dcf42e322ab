import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from concepts.errors import LibraryError
from concepts.images.upload_checks import MAX_BYTES, MAX_PIXELS, encode_png, read_picture

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_halves(width: int = 96, height: int = 64) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(pixel, expected, tolerance: int = 6) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_from_bytes_and_from_a_file(kind, tmp_path):
    data = encoded(two_halves(), kind)
    file = tmp_path / "picture"
    file.write_bytes(data)
    from_bytes, from_file = read_picture(data, "p"), read_picture(file, "p")
    assert from_bytes.mode == "RGB"
    assert from_bytes.size == (96, 64)
    assert near(from_bytes.getpixel((5, 30)), RED)
    assert near(from_bytes.getpixel((90, 30)), BLUE)
    assert from_bytes.tobytes() == from_file.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned a quarter clockwise: what was left comes to the top
    image = read_picture(encoded(two_halves(), kind, exif=exif), "p")
    assert image.size == (64, 96)
    assert near(image.getpixel((30, 5)), RED)
    assert near(image.getpixel((30, 90)), BLUE)
    assert 0x0112 not in image.getexif()


def test_metadata_is_stripped():
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "where I live")
    exif = Image.Exif()
    exif[0x010F] = "the camera"
    data = encoded(two_halves(), "PNG", pnginfo=note, exif=exif, dpi=(300, 300), icc_profile=b"a profile")
    assert b"where I live" in data
    image = read_picture(data, "p")
    assert image.info == {}
    assert len(image.getexif()) == 0
    stored = encode_png(image)
    assert not any(word in stored for word in (b"where I live", b"the camera", b"iCCP", b"pHYs", b"eXIf"))


@pytest.fixture(scope="module")
def red_means_green() -> bytes:
    """sRGB's profile with the primaries red and green in each other's place."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return plain.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colours_of_a_profile_become_srgb(kind, red_means_green):
    read = read_picture(encoded(two_halves(), kind, icc_profile=red_means_green), "p")
    assert near(read.getpixel((5, 30)), (0, 255, 0), tolerance=12)
    assert near(read.getpixel((90, 30)), BLUE, tolerance=12)
    assert read.info == {}


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_a_profile_beside_transparency(mode, red_means_green):
    image = Image.new("RGBA", (64, 64), (*RED, 0))
    image.paste((*RED, 255), (32, 0, 64, 64))
    read = read_picture(encoded(image.convert(mode), "PNG", icc_profile=red_means_green), "p")
    assert read.getpixel((5, 5)) == (255, 255, 255)
    assert near(read.getpixel((60, 5)), (0, 255, 0), tolerance=2)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_of_other_colours_or_a_damaged_one_is_passed_over(mode, red_means_green):
    image = two_halves().convert(mode)
    plain = read_picture(encoded(image, "TIFF"), "p")
    for profile in (red_means_green, red_means_green[:200], b"a profile"):
        assert read_picture(encoded(image, "TIFF", icc_profile=profile), "p").tobytes() == plain.tobytes()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_used(kind):
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with Image.open(BytesIO(data)) as animation:
        assert getattr(animation, "n_frames", 1) == 2
    assert near(read_picture(data, "p").getpixel((9, 9)), RED)


def test_transparency_becomes_white():
    image = Image.new("RGBA", (64, 64), (*RED, 0))
    image.paste((*RED, 128), (32, 0, 64, 64))
    read = read_picture(encoded(image, "PNG"), "p")
    assert read.getpixel((5, 5)) == (255, 255, 255)
    assert near(read.getpixel((60, 5)), (255, 127, 127), tolerance=1)


@pytest.mark.parametrize("transparent", [None, 0])
def test_palette(transparent):
    image = Image.new("P", (64, 64), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (32, 0, 64, 64))
    options = {} if transparent is None else {"transparency": transparent}
    read = read_picture(encoded(image, "PNG", **options), "p")
    assert read.getpixel((5, 5)) == (RED if transparent is None else (255, 255, 255))
    assert read.getpixel((60, 5)) == BLUE


def test_grey_with_alpha():
    read = read_picture(encoded(Image.new("LA", (64, 64), (100, 0)), "PNG"), "p")
    assert read.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_not_clipped(kind):
    image = Image.new("I;16", (64, 64), 257 * 100)
    assert read_picture(encoded(image, kind), "p").getpixel((5, 5)) == (100, 100, 100)


def test_32_bit_pictures_are_refused():
    with pytest.raises(LibraryError, match=r"deep\.tiff has 32 bits per channel. Save it"):
        read_picture(encoded(Image.new("F", (64, 64)), "TIFF"), "deep.tiff")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    data = encoded(two_halves().convert("CMYK"), kind)
    image = read_picture(data, "p")
    assert near(image.getpixel((5, 5)), RED, tolerance=12)
    assert near(image.getpixel((90, 5)), BLUE, tolerance=12)


def test_a_text_file_is_no_picture(tmp_path):
    file = tmp_path / "notes.jpg"
    file.write_text("dear diary, " * 100)
    with pytest.raises(LibraryError, match=r"notes\.jpg is not a picture"):
        read_picture(file, file.name)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b"II*\0\xff\xff\xff\xff"])
def test_stubs_are_no_pictures(data):
    with pytest.raises(LibraryError, match="stub"):
        read_picture(data, "stub")


def test_other_formats_are_not_even_tried():
    with pytest.raises(LibraryError, match="is not a picture"):
        read_picture(encoded(two_halves(), "PPM"), "p")
    with pytest.raises(LibraryError, match="is not a picture"):
        read_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "p.eps")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_picture(kind):
    noise = Image.effect_noise((200, 200), 80).convert("RGB")
    data = encoded(noise, kind)
    with pytest.raises(LibraryError, match=r"holiday"):
        read_picture(data[: len(data) // 2], "holiday")


@pytest.mark.parametrize("side", [8_001, 9_600, 50_000, 2_000_000])  # our cap, then Pillow's warning and its error
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    with pytest.raises(LibraryError, match=r"bomb\.png is too large.*at most 64 million pixels"):
        read_picture(png_header(side, side), "bomb.png")


def test_too_small():
    with pytest.raises(LibraryError, match=r"thumb\.png has only 200x63 pixels.*at least 64"):
        read_picture(encoded(Image.new("RGB", (200, 63)), "PNG"), "thumb.png")
    assert read_picture(encoded(Image.new("RGB", (64, 64)), "PNG"), "p").size == (64, 64)


def test_too_many_bytes(tmp_path, monkeypatch):
    file = tmp_path / "fat.png"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read although it is too big"))
    with pytest.raises(LibraryError, match=r"fat\.png is too large.*256 MiB"):
        read_picture(file, file.name)


def test_the_byte_cap_admits_what_the_pixel_cap_admits():
    noise = Image.effect_noise((512, 512), 200)
    worst = encode_png(Image.merge("RGB", [Image.effect_noise((512, 512), 200) for _ in range(3)]))
    assert len(worst) > 2 * 512 * 512  # it hardly compresses
    assert len(worst) / noise.width / noise.height * MAX_PIXELS < MAX_BYTES


def test_what_is_no_file(tmp_path):
    for missing in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(LibraryError, match="There is no file"):
            read_picture(missing, missing.name)


def test_damage_at_any_byte_of_the_header():
    """Corrupt bytes give a picture or a LibraryError."""
    for kind in ("PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG"):
        data = encoded(two_halves(), kind)
        for position in range(min(len(data), 64)):
            hostile = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
            with suppress(LibraryError):
                assert read_picture(hostile, "p").mode == "RGB"
