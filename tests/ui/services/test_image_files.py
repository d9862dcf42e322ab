import io
from dataclasses import dataclass

import pytest
from PIL import Image

from ui.services.image_files import evaluation_sheet, grid, labelled_grid, png_bytes, save_new

WHITE = (255, 255, 255)


def square(colour: str, side: int = 20) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def colours(picture: Image.Image) -> set:
    return {colour for _, colour in picture.getcolors(1 << 20) or []}


def test_a_png_remembers_its_settings():
    settings = {"prompt": "a <rex> 🐕, “so”", "seed": "7"}
    with Image.open(io.BytesIO(png_bytes(square("red"), settings))) as picture:
        assert picture.info == settings
        assert picture.tobytes() == square("red").tobytes()
    assert png_bytes(square("red")) == png_bytes(square("red"))


def test_a_grid_shows_every_picture_in_rows():
    names = ["red", "green", "blue", "black", "yellow"]
    sheet = grid([square(name) for name in names], columns=2)
    assert colours(sheet) == {*(square(name).getpixel((0, 0)) for name in names), WHITE}
    assert sheet.width < 3 * 20 < sheet.height
    one = grid([square("red")])
    assert one.width < 2 * 20


def test_titles_stand_above_their_rows():
    plain = labelled_grid([("", [square("red")])])
    titled = labelled_grid([("a title", [square("red")])])
    assert titled.height > plain.height
    assert len(colours(titled)) > len(colours(plain)) == 2


def test_pictures_are_scaled_to_one_side():
    sheet = labelled_grid([("", [square("red", 10), square("blue", 40)])], side=16)
    amounts = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    assert amounts[(255, 0, 0)] == amounts[(0, 0, 255)] == 16 * 16


def test_no_file_is_overwritten(tmp_path):
    paths = [save_new(tmp_path, "cat", data) for data in (b"one", b"two", b"three")]
    assert [path.name for path in paths] == ["cat.png", "cat-2.png", "cat-3.png"]
    assert [path.read_bytes() for path in paths] == [b"one", b"two", b"three"]
    with pytest.raises(FileNotFoundError):
        save_new(tmp_path / "nowhere", "cat", b"")


@dataclass
class Asked:
    category: str
    right: bool

    def answered(self, verdict: str) -> bool:
        return self.right and verdict == "seen"


def test_what_the_judge_did_not_see_is_framed():
    asked = [Asked("colour", True), Asked("colour", False), Asked("background", True)]
    pictures = [square("black")] * 3
    all_right = evaluation_sheet([asked[0], asked[2]], ["seen"] * 2, pictures[:2])
    assert not any(red > 150 and green < 50 for red, green, _ in colours(all_right))
    one_wrong = evaluation_sheet(asked, ["seen"] * 3, pictures)
    assert any(red > 150 and green < 50 for red, green, _ in colours(one_wrong))
