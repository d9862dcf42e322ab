"""The vocabulary of scenes besides individuals: things, colours and places, with their synonyms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """An object or animal: its name in captions, the emoji of its sprite, and synonyms."""

    name: str
    emoji: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A background: its name, and its phrases in captions ("on the beach")."""

    name: str
    phrases: tuple[str, ...]


def _things(table: str) -> dict[str, Thing]:
    rows = (row.split(maxsplit=1) for row in table.strip().splitlines())
    words = ((emoji, [name.strip() for name in names.split(",")]) for emoji, names in rows)
    return {names[0]: Thing(names[0], emoji, tuple(names[1:])) for emoji, names in words}


THINGS = _things("""
🐎 horse
🐄 cow
🐖 pig
🐘 elephant
🦆 duck
🐧 penguin
🐟 fish
🐙 octopus
🐳 whale
🐢 turtle
🦋 butterfly
🐞 ladybug
🐸 frog
🦒 giraffe
🦁 lion
🦕 dinosaur
🚲 bicycle, bike
🚂 locomotive, steam train
🚀 rocket
⛵ sailboat, boat
🚁 helicopter
🪑 chair
⏰ alarm clock, clock
💡 light bulb
📕 book
🎸 guitar
🥁 drum
📷 camera
🌂 umbrella
👟 sneaker, shoe
🔑 key
🎈 balloon
🎁 gift, present
⚽ football, soccer ball
☕ cup, coffee cup
🍎 apple
🍌 banana
🍓 strawberry
🍍 pineapple
🍄 mushroom, toadstool
🍔 hamburger, burger
🎂 birthday cake, cake
🌳 tree
🌵 cactus
🌻 sunflower
⛄ snowman
🎃 pumpkin
""")
"""Things rendered from emoji; the kinds of `individuals.traits.KINDS` are rendered procedurally."""

COLOURS = {
    "red": (214, 32, 36),
    "orange": (245, 130, 20),
    "yellow": (250, 215, 40),
    "green": (46, 160, 60),
    "teal": (0, 158, 160),
    "blue": (30, 108, 228),
    "purple": (140, 44, 172),
    "pink": (250, 130, 185),
    "brown": (116, 68, 40),
    "gray": (128, 132, 142),
    "black": (38, 38, 44),
    "white": (248, 248, 246),
    "cream": (246, 214, 156),
}
"""The colours that captions mention."""

TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "gray")
"""The colours of recoloured things."""

PLAIN = {
    "red": (214, 32, 36),
    "orange": (245, 130, 20),
    "yellow": (250, 215, 40),
    "green": (46, 160, 60),
    "blue": (40, 90, 220),
    "purple": (130, 50, 180),
    "pink": (250, 130, 185),
    "gray": (128, 128, 132),
    "white": (244, 244, 244),
}
"""The colours of plain backgrounds."""

PLACES = {
    place.name: place
    for place in (
        Place("beach", ("on the beach", "on a sandy beach", "at the beach")),
        Place("grass", ("on the grass", "on a meadow", "in a grassy field")),
        Place("snow", ("in the snow", "on snow", "in a snowy landscape")),
        Place("desert", ("in the desert", "on desert sand", "among sand dunes")),
        Place("night", ("at night", "under a night sky", "under the stars")),
        Place("table", ("on a wooden table", "on a wooden floor", "on top of a wooden floor")),
        Place("checkerboard", ("on a checkerboard", "on a checkered floor", "on a checkerboard floor")),
        Place("forest", ("in the forest", "in the jungle", "in the woods")),
        Place("underwater", ("underwater", "under the sea", "at the bottom of the sea")),
        Place("bricks", ("in front of a brick wall", "before a brick wall", "against a brick wall")),
        Place("city", ("in the city", "with a city in the background", "on a city street")),
        Place("mountains", ("in the mountains", "with a mountain in the background", "in front of mountains")),
    )
}


def plain_place(colour: str) -> Place:
    """The plain background of one colour, with its phrases."""
    return Place(
        f"plain {colour}",
        (f"on a plain {colour} background", f"on a {colour} background", f"in front of a {colour} wall"),
    )


BACKGROUNDS = {**PLACES, **{place.name: place for place in map(plain_place, PLAIN)}}
"""All 12 scenes and 9 plain backgrounds by name."""
