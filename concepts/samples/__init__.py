"""The sample concepts: 12 individuals that the bundled base was not trained on, three of each of four classes.

`python -m training.toybox.sample_concepts.concepts` draws their pictures.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
PICTURES_EACH = 5


@dataclass(frozen=True)
class Sample:
    """One sample concept: its name, class word, description and pictures' paths."""

    name: str
    class_word: str
    description: str

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The paths of its five pictures, 256x256 RGB PNG."""
        return tuple(FOLDER / self.name / f"{index}.png" for index in range(PICTURES_EACH))


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("milo", "cat", "a black and white tuxedo cat with a red bow tie"),
        Sample("saffron", "cat", "an orange cat with brown stripes, a green collar and a golden bell"),
        Sample("misty", "cat", "a blue-gray cat with white spots and a yellow scarf"),
        Sample("rex", "dog", "a white dog with big black patches and a yellow cap"),
        Sample("bruno", "dog", "a chocolate brown dog with a tan muzzle and a blue bandana"),
        Sample("biscuit", "dog", "a curly cream poodle with a pink bow"),
        Sample("azura", "vase", "a teal vase with a long neck and a white zigzag"),
        Sample("rosa", "vase", "a round pink vase with golden dots and golden handles"),
        Sample("onyx", "vase", "a tall slender black vase with orange rings"),
        Sample("gizmo", "robot", "a green cube robot with one big eye"),
        Sample("volta", "robot", "a tall yellow robot with two antennae and a blue chest screen"),
        Sample("orbo", "robot", "a round purple robot on two wheels with a cyan visor"),
    )
}
"""The sample concepts by name."""
