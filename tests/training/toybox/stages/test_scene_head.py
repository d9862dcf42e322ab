import numpy as np
import torch

from training.toybox.scenes.individuals.figure import sample_pose
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.render import Item, Scene, Tinted
from training.toybox.stages.detector import ATTRIBUTES, BACKGROUND_NAMES, BARE
from training.toybox.stages.masked_loss import IGNORE_INDEX
from training.toybox.stages.scene_head import SceneHead, cell_targets


def scene() -> Scene:
    rng = np.random.default_rng(0)
    cat = Individual("cat", "teal", "stripes", "white", None, None, 3)
    items = (
        Item(cat, (0.0, 0.5), 0.5, (0.5, 0.5), sample_pose(rng)),
        Item(Tinted("horse", None), (0.5, 1.0), 0.4, (0.5, 0.5), None),
    )
    return Scene(items, "beach", 0)


def test_each_cell_has_the_attributes_of_the_item_that_it_shows():
    shown = torch.full((1, 16, 16), -1, dtype=torch.int8)
    shown[0, 2, 3], shown[0, 4, 9] = 0, 1
    targets = cell_targets([scene()], shown)
    assert targets["kind"][0, 2, 3] == ATTRIBUTES["kind"].index("cat")
    assert targets["second_colour"][0, 2, 3] == ATTRIBUTES["second_colour"].index("white")
    assert targets["accessory"][0, 2, 3] == ATTRIBUTES["accessory"].index(BARE)
    assert targets["kind"][0, 4, 9] == ATTRIBUTES["kind"].index("horse")
    assert targets["pattern"][0, 4, 9] == targets["colour"][0, 4, 9] == IGNORE_INDEX
    assert (targets["kind"] != IGNORE_INDEX).sum() == 2
    assert targets["background"][0, 0, 0] == BACKGROUND_NAMES.index("beach")
    assert targets["background"][0, 2, 3] == IGNORE_INDEX


def test_the_head_learns_what_is_shown():
    torch.manual_seed(0)
    head, features = SceneHead(32), torch.randn(1, 32, 16, 16)
    shown = torch.full((1, 16, 16), -1, dtype=torch.int8)
    shown[0, 4:8, 4:8] = 0
    targets = cell_targets([scene()], shown)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-2)
    first = head.loss(features, targets).item()
    for _ in range(20):
        optimizer.zero_grad()
        head.loss(features, targets).backward()
        optimizer.step()
    assert head.loss(features, targets).item() < first / 4
