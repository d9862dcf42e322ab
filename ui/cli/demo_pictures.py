"""The demo's pictures: each concept's own ones beside what is generated, with and without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ui.services.image_files import labelled_grid

SIDE = 128
"""The side of every picture of one concept, in pixels."""


@dataclass(frozen=True)
class Shown:
    """Pictures of one concept, the base's pictures of the same prompts and seeds, and those prompts."""

    pictures: list[Image.Image]
    base_pictures: list[Image.Image]
    prompts: list[str]


def sheet(name: str, references: Sequence[Image.Image], shown: Shown, templates: Sequence[str]) -> Image.Image:
    """The concept's own pictures, and below them those of each prompt, with the concept and by the base alone."""
    own = labelled_grid([(f"{name}'s own pictures", references)], side=SIDE)
    return _below([own, _beside([
        labelled_grid(_by_prompt(templates, name, shown.pictures), side=SIDE),
        labelled_grid(_by_prompt(templates, "the base alone", shown.base_pictures), side=SIDE),
    ])])  # fmt: skip


def together(names: str, pictures: Sequence[Image.Image], base_pictures: Sequence[Image.Image]) -> Image.Image:
    """Four pictures of all concepts, and the base's of the same prompt and seeds."""
    return labelled_grid(
        [(names, pictures[:4]), ("the base alone, with the same prompts and seeds", base_pictures[:4])]
    )


def overview(
    concepts: Mapping[str, tuple[Sequence[Image.Image], Shown]],
    each: int,
    names: str,
    whole: Sequence[Image.Image],
) -> Image.Image:
    """A row for each concept: four of its own pictures, the first of each prompt, and two of the base; and a row of
    pictures of all. `each` is the number of pictures of a prompt.
    """
    rows = [
        _beside([
            labelled_grid([(f"{name}'s own pictures", references[:4])], side=SIDE),
            labelled_grid([("generated after training", shown.pictures[::each])], side=SIDE),
            labelled_grid([("by the base alone", shown.base_pictures[::each][:2])], side=SIDE),
        ])
        for name, (references, shown) in concepts.items()
    ]  # fmt: skip
    return _below([*rows, labelled_grid([(f"{names} in one picture", whole[:4])])])


def _by_prompt(
    templates: Sequence[str], subject: str, pictures: Sequence[Image.Image]
) -> list[tuple[str, Sequence[Image.Image]]]:
    each = len(pictures) // len(templates)
    return [
        (f"{template.format('…')}: {subject}", pictures[index * each : (index + 1) * each])
        for index, template in enumerate(templates)
    ]


def _beside(parts: Sequence[Image.Image]) -> Image.Image:
    return _pasted(parts, [(sum(p.width for p in parts[:index]), 0) for index in range(len(parts))])


def _below(parts: Sequence[Image.Image]) -> Image.Image:
    return _pasted(parts, [(0, sum(p.height for p in parts[:index])) for index in range(len(parts))])


def _pasted(parts: Sequence[Image.Image], corners: Sequence[tuple[int, int]]) -> Image.Image:
    placed = list(zip(parts, corners, strict=True))
    size = max(x + p.width for p, (x, _) in placed), max(y + p.height for p, (_, y) in placed)
    whole = Image.new("RGB", size, "white")
    for part, corner in placed:
        whole.paste(part, corner)
    return whole
