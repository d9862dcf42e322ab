"""Hard negatives of the sample concepts, rendered by rules, and the negatives that their pictures are compared with.

Two have the sample's palette in another shape, and two its shape in another palette: its two colours exchanged, and
both replaced.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
from PIL import Image

from concepts import read_picture
from concepts.samples import PICTURES_EACH, SAMPLES
from studio.metrics.clip import Recognition, Scorer
from studio.metrics.identity import DRAWN_NEGATIVES, NEGATIVES
from training.toybox.evaluation.individual_views import hard_negative
from training.toybox.sample_concepts.animals import CATS, DOGS, cat_head, dog_head, draw_animal
from training.toybox.sample_concepts.concepts import FIGURES, SIDE, draw_as_sample, draw_figure
from training.toybox.sample_concepts.pen import Pen, Pose
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.figure import draw_figure as draw_individual
from training.toybox.scenes.individuals.traits import SAMPLE_TRAITS, Individual
from training.toybox.scenes.items import COLOURS

SCALE = 4
"""Pixels per unit at which a hard negative is rendered; a sample's own pictures are rendered larger."""
DARKEST, LIGHTEST, NEAR = 0.55, 1.3, 45
"""The range of shades of a colour in a figure, as factors, and the maximum distance in levels."""
Draw = Callable[[Pose], Image.Image]


def recoloured(levels: np.ndarray, change: Sequence[tuple[Colour, Colour]]) -> np.ndarray:
    """Levels (h, w, 3) in which each first colour, in any shade, is the second one in that shade."""
    pixels = levels.astype(np.float32)
    shades, misses = [], []
    for old, _ in change:
        tone = np.array(old, np.float32)
        shade = np.clip(pixels @ tone / (tone @ tone), DARKEST, LIGHTEST)
        shades.append(shade)
        misses.append(np.linalg.norm(pixels - shade[..., None] * tone, axis=-1))
    closest, generated = np.argmin(misses, 0), pixels.copy()
    for index, (_, new) in enumerate(change):
        found = (closest == index) & (misses[index] < NEAR)
        generated[found] = np.minimum(255, shades[index][found][:, None] * np.array(new, np.float32))
    return generated.round().astype(np.uint8)


def _recoloured_sample(name: str, change: Sequence[tuple[Colour, Colour]]) -> Draw:
    def draw(pen: Pen, pose: Pose) -> None:
        FIGURES[name](pen, pose=pose)
        levels = np.asarray(pen.image)
        colours = recoloured(levels[..., :3], change)
        pen.image.paste(Image.fromarray(np.concatenate([colours, levels[..., 3:]], -1), "RGBA"))

    return partial(draw_figure, draw, scale=SCALE)


def _colours(traits: Individual) -> list[str]:
    """Its two main colours, of which the second is the accessory's where it has no pattern."""
    return [name for name in (traits.colour, traits.second_colour or traits.accessory_colour) if name]


def _in_other_shapes(name: str) -> list[Draw]:
    """For an animal, another animal with the same coat; and individuals of other kinds."""
    rng, traits = np.random.default_rng(len(name) + list(SAMPLES).index(name)), SAMPLE_TRAITS[name]
    draws: list[Draw] = []
    if name in CATS or name in DOGS:
        coat, head = (CATS[name], dog_head) if name in CATS else (DOGS[name], cat_head)
        draws.append(partial(draw_figure, partial(draw_animal, coat=coat, head=head), scale=SCALE))
    while len(draws) < 2:
        draws.append(partial(_drawn, hard_negative(traits, "kind", rng)))
    return draws


def _drawn(individual: Individual, pose: Pose) -> Image.Image:
    return draw_individual(individual, pose, SIDE, SIDE)


def _in_other_palettes(name: str) -> list[Draw]:
    rng, traits = np.random.default_rng(list(SAMPLES).index(name)), SAMPLE_TRAITS[name]
    old = _colours(traits)
    new = _colours(hard_negative(traits, "palette", rng))
    exchanged, changed = ([(COLOURS[a], COLOURS[b]) for a, b in zip(old, others, strict=True)]
                          for others in (old[::-1], new))  # fmt: skip
    return [_recoloured_sample(name, exchanged), _recoloured_sample(name, changed)]


@cache
def sample_negatives(name: str) -> list[list[Image.Image]]:
    """The pictures of a sample's DRAWN_NEGATIVES hard negatives, 256x256 RGB, in the sample's poses and places.

    Raises KeyError for a name that is not in `concepts.samples.SAMPLES`.
    """
    draws = [*_in_other_shapes(name), *_in_other_palettes(name)]
    assert len(draws) == DRAWN_NEGATIVES
    return [[draw_as_sample(draw, name, index) for index in range(PICTURES_EACH)] for draw in draws]


def sample_pictures(name: str) -> list[Image.Image]:
    """The five pictures of a sample concept."""
    return [read_picture(path, path.name) for path in SAMPLES[name].pictures]


def compared_with(name: str) -> list[str]:
    """The other samples that serve as negatives: those of its kind, then those that follow it."""
    names, own = list(SAMPLES), SAMPLES[name].class_word
    after = [*names[names.index(name) + 1 :], *names[: names.index(name)]]
    return sorted(after, key=lambda other: SAMPLES[other].class_word != own)[: NEGATIVES - DRAWN_NEGATIVES]


def sample_recognition(scorer: Scorer, name: str) -> Recognition:
    """Verifies a sample concept against its hard negatives and other samples; StudioError for an unsuitable scorer."""
    others = [*sample_negatives(name), *map(sample_pictures, compared_with(name))]
    return scorer.recognition(sample_pictures(name), others)
