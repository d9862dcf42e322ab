import numpy as np
import pytest
import torch
from PIL import Image

from training.toybox import judges
from training.toybox.judges import Judge, judge_loss, judge_pictures
from training.toybox.layout import (
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    NOTHING,
    THING_NAMES,
    UNASKED,
    layout,
    present_and_absent,
)
from training.toybox.render import Item, Scene
from training.toybox.renders import draw_all, scenes, to_signal

CAT, VASE = Item("cat", None, (0.25, 0.5), 0.4), Item("vase", "blue", (0.75, 0.5), 0.4)
SCENE = Scene((CAT, VASE), "beach", 0)


def test_each_cell_says_what_is_there_where_that_is_clear():
    things, colours = layout(SCENE, 16)
    assert things.shape == colours.shape == (16, 16)
    assert things[8, 4] == THING_NAMES.index("cat")
    assert things[8, 12] == THING_NAMES.index("vase")
    assert things[0, 0] == things[8, 8] == NOTHING
    assert things[8, 6] == UNASKED  # the cat's edge
    assert colours[8, 12] == COLOUR_NAMES.index("blue")
    assert set(colours[:, :8].ravel()) == {UNASKED}
    nothing, uncoloured = layout(Scene((), "beach", 0), 16)
    assert (nothing == NOTHING).all()
    assert (uncoloured == UNASKED).all()


def test_the_few_cells_with_a_thing_count_as_much_as_the_many_without():
    wanted = torch.from_numpy(layout(SCENE, 16)[0])[None]
    clueless = torch.zeros(1, NOTHING + 1, 16, 16)
    present, absent = present_and_absent(clueless, wanted)
    torch.testing.assert_close(present, absent)
    blind = clueless.clone()
    blind[:, NOTHING] = 50
    present, absent = present_and_absent(blind, wanted)
    assert present > 40
    assert absent < 1e-6
    empty = torch.full((1, 16, 16), NOTHING)
    assert present_and_absent(clueless, empty)[0] == 0


class Stub(Judge):
    """Sees a cat on the left and a blue vase on the right, at the beach, in whatever it is shown."""

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count = len(pictures)
        things = torch.zeros(count, NOTHING + 1, 16, 16)
        things[:, NOTHING] = 9
        things[:, THING_NAMES.index("cat"), 8, 4] = 20
        things[:, THING_NAMES.index("vase"), 8, 12] = 18
        colours = torch.zeros(count, len(COLOUR_NAMES), 16, 16)
        colours[:, COLOUR_NAMES.index("red"), 8, 4] = 5
        colours[:, COLOUR_NAMES.index("blue"), 8, 12] = 5
        colours[:, COLOUR_NAMES.index("green"), 0, 0] = 9  # where nothing is, no colour counts
        places = torch.zeros(count, len(BACKGROUND_NAMES))
        places[:, BACKGROUND_NAMES.index("beach")] = 1
        return things, colours, places


def test_a_verdict_names_the_likeliest_things_with_their_own_colours():
    verdicts = judge_pictures(Stub(), [Image.new("RGB", (side, side)) for side in (128, 32)] * 40)
    assert len(verdicts) == 80
    assert {(v.things, v.colours, v.background) for v in verdicts} == {(("cat", "vase"), ("red", "blue"), "beach")}


def test_the_judge_learns(small_world):
    torch.manual_seed(0)
    judge, batch = Judge(), scenes(0, count=4)
    signal = to_signal(torch.from_numpy(draw_all(batch)).permute(0, 3, 1, 2))
    things, colours, places = judge(signal)
    assert things.shape == (4, NOTHING + 1, 16, 16)
    assert colours.shape == (4, len(COLOUR_NAMES), 16, 16)
    assert places.shape == (4, len(BACKGROUND_NAMES))
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    losses = []
    for _ in range(6):
        loss = judge_loss(judge, signal, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_scene_without_colours_or_things_has_a_loss(small_world):
    torch.manual_seed(0)
    empty = Scene((), "beach", 0)
    loss = judge_loss(Judge().eval(), torch.zeros(1, 3, 128, 128), [empty])
    assert loss.isfinite()


def test_training_resumes_exactly(small_models, resumes_exactly):
    resumes_exactly(lambda folder, steps: judges.train(folder, "cpu", steps))


def test_a_judge_is_kept_and_made_where_it_is_missing(small_models, tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "WEIGHTS", tmp_path / "judges.safetensors")
    monkeypatch.setattr(judges, "STEPS", 1)
    torch.manual_seed(0)
    made = Judge().eval()
    monkeypatch.setattr(judges, "train", lambda *_: made)
    first = judges.load(tmp_path)
    assert judges.WEIGHTS.stat().st_size < 2.2 * sum(p.numel() for p in made.parameters())
    monkeypatch.setattr(judges, "train", lambda *_: pytest.fail("it is on disk"))
    again = judges.load(tmp_path)
    picture = torch.from_numpy(np.zeros((1, 3, 128, 128), np.float32))
    assert not again.training
    for one, two, start in zip(first(picture), again(picture), made(picture), strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, start, rtol=0.02, atol=0.02)
