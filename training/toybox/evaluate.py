"""Measures a base on toybox's world the GenEval way (Ghosh et al., 2023): does the picture hold what was asked?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.toybox.judges import Judge, Verdict, judge_pictures
from training.toybox.render import Scene, draw_scene
from training.toybox.renders import TEST_SEED, scenes
from training.toybox.wording import with_article
from training.toybox.world import BACKGROUNDS, COLOURS, THINGS

CATEGORIES = ("one_object", "background", "colour", "two_objects")


@dataclass(frozen=True)
class Question:
    """A prompt and what its picture must show: things with their colours (None: any), and a background (None: any)."""

    category: str
    prompt: str
    things: tuple[tuple[str, str | None], ...]
    background: str | None = None

    def answered(self, verdict: Verdict) -> bool:
        """Whether the judge saw it: the things asked for are the most likely ones, in their colours, there."""
        seen = dict(zip(verdict.things[: len(self.things)], verdict.colours, strict=False))
        found = all(thing in seen and colour in (None, seen[thing]) for thing, colour in self.things)
        return found and self.background in (None, verdict.background)


def questions(rounds: int = 1, seed: int = 0) -> list[Question]:
    """The prompts: every thing, as many colour bindings and pairs, and every background four times, in each round."""
    rng = np.random.default_rng(seed)
    asked = []
    for _ in range(rounds):
        for thing in THINGS:
            colour = str(rng.choice(list(COLOURS)))
            other = str(rng.choice([name for name in THINGS if name != thing]))
            pair = f"{with_article(thing)} and {with_article(other)}"
            one, tinted = with_article(thing), with_article(f"{colour} {thing}")
            asked.append(Question("one_object", f"a photo of {one}", ((thing, None),)))
            asked.append(Question("colour", f"a photo of {tinted}", ((thing, colour),)))
            asked.append(Question("two_objects", f"a photo of {pair}", ((thing, None), (other, None))))
        for place in list(BACKGROUNDS.values()) * 4:
            thing = str(rng.choice(list(THINGS)))
            prompt = f"a photo of {with_article(thing)} {rng.choice(place.phrases)}"
            asked.append(Question("background", prompt, (), place.name))
    return asked


def accuracy(asked: Sequence[Question], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The share of answered questions by category."""
    right = {category: [] for category in CATEGORIES}
    for question, verdict in zip(asked, verdicts, strict=True):
        right[question.category].append(question.answered(verdict))
    return {category: float(np.mean(answers)) for category, answers in right.items() if answers}


def judge_accuracy(judge: Judge, count: int = 1024) -> dict[str, float]:
    """How often the judge is right, by category, on renders that it never saw."""
    unseen = [scene for scene in scenes(0, TEST_SEED, count) if scene.items]
    verdicts = judge_pictures(judge, [draw_scene(scene) for scene in unseen])
    pairs = [(question, verdict) for scene, verdict in zip(unseen, verdicts, strict=True) for question in _about(scene)]
    return accuracy([question for question, _ in pairs], [verdict for _, verdict in pairs])


def _about(scene: Scene) -> list[Question]:
    things = tuple((item.kind, None) for item in scene.items)
    asked = [Question("one_object" if len(things) == 1 else "two_objects", "", things)]
    asked.append(Question("background", "", (), scene.background))
    if len(scene.items) == 1 and scene.items[0].colour:
        asked.append(Question("colour", "", ((scene.items[0].kind, scene.items[0].colour),)))
    return asked
