from typing import Any

import pytest
from PIL import Image

from concepts import Library
from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from ui.services.scoring.comparison import Axis, Grid, _cell, compare, missing, values_of, varied
from ui.services.scoring.comparison_files import as_html, as_picture
from ui.services.workflow import Workflow

REQUEST = GenerationRequest(prompt="a {} and <milo>", num_images=1, num_inference_steps=1)


@pytest.fixture
def workflow(library: Library, tiny_folder, monkeypatch) -> Workflow:
    made = Workflow(library.root, str(tiny_folder))
    monkeypatch.setattr(made, "generate_each", _generated)
    return made


def _generated(request: GenerationRequest, on_step: Any) -> list[tuple[int, Image.Image]]:
    on_step()
    strength = request.strengths.get("rex", 1.0)
    assert isinstance(strength, float)
    return [(request.seed, Image.new("RGB", (64, 64), (int(100 * strength), 0, 0)))]


def test_a_grid_grows_cell_by_cell(workflow: Workflow):
    steps: list[None] = []
    grids = list(compare(workflow, REQUEST, ("concept", "rex, Milo"), ("strength", "0.5,1,2"),
                         lambda: steps.append(None)))  # fmt: skip
    assert [len(grid.cells) for grid in grids] == [1, 2, 3, 4, 5, 6]
    assert len(steps) == 6
    last = grids[-1]
    assert (list(last.columns), list(last.rows), last.backbone) == (["rex", "Milo"], ["0.5", "1", "2"], "toybox-clip")
    assert [(cell.row, cell.column) for cell in last.cells[:3]] == [(0, 0), (0, 1), (1, 0)]
    assert all(cell.scores["image_alignment"] is not None for cell in last.cells)
    assert last.cells[4].picture.getpixel((0, 0)) == (200, 0, 0)


@pytest.fixture
def grid(workflow: Workflow) -> Grid:
    return list(compare(workflow, REQUEST, ("concept", "rex"), ("none", ""), lambda: None))[-1]


def test_a_grid_is_saved_with_its_scores(grid: Grid):
    picture = as_picture(grid, "a title")
    assert picture.width > 64
    assert as_picture(grid, "a title " * 30).height > picture.height
    html = as_html(grid, "a <title>")
    assert "a &lt;title&gt;" in html
    assert "data:image/png" in html
    assert f"{grid.cells[0].scores['text_alignment']:.3f}" in html


def test_every_axis_varies_its_own():
    assert varied(REQUEST, "concept", "rex").prompt == "a <rex> and <milo>"
    assert varied(REQUEST, "strength", "0.5").strengths == {"milo": 0.5}
    assert varied(REQUEST, "merge method", "ties").method == "ties"
    assert varied(REQUEST, "seed", "7").seed == 7
    assert varied(REQUEST, "scheduler", "euler").scheduler == "euler"
    assert varied(REQUEST, "guidance_scale", "2.5").guidance_scale == 2.5
    assert varied(REQUEST, "prompt", "a {}, asleep").prompt == "a {}, asleep"
    assert varied(REQUEST, "none", "") == REQUEST


def test_a_prompt_of_one_axis_takes_the_concept_of_the_other():
    prompt: tuple[Axis, str] = ("prompt", "a {}")
    concept: tuple[Axis, str] = ("concept", "rex")
    for pair in ((prompt, concept), (concept, prompt)):
        assert _cell(GenerationRequest(prompt=""), *pair)[0].prompt == "a <rex>"


def test_axes_that_do_not_fit_are_refused(workflow: Workflow):
    wrong: tuple[tuple[Axis, str, str], ...] = (
        ("seed", "one", "is not a number"), ("strength", "a", "is not a number"), ("seed", " , ", "has no values"),
        ("seed", ",".join("1" * 65), "at most 64"), ("rank", "4.5", "is not a number"), ("adapter", "lara", "lora"),
    )  # fmt: skip
    for axis, text, sentence in wrong:
        with pytest.raises(StudioError, match=sentence):
            next(iter(compare(workflow, REQUEST, (axis, text), ("none", ""))))
    with pytest.raises(StudioError, match=r"The prompt has no {}"):
        varied(GenerationRequest(prompt="a cat"), "concept", "rex")
    assert values_of("none", "anything") == [""]
    assert values_of("prompt", "a {}, asleep; a {} in the snow") == ["a {}, asleep", "a {} in the snow"]


@pytest.fixture
def swept(workflow: Workflow, store_variant) -> Workflow:
    """Rex's pictures trained with lora of rank 4 and of rank 2 as well."""
    for name, rank in (("rex-lora", 4), ("rex-lora-r2", 2)):
        store_variant(workflow, "rex", name, "lora", rank)
    return workflow


def test_adapters_of_one_concept_are_compared(swept: Workflow):
    request = GenerationRequest(prompt="a photo of <rex>", num_images=1, num_inference_steps=1)
    (*_, grid) = compare(swept, request, ("adapter", "spectral_additive, lora"), ("strength", "0.5, 1"))
    assert list(grid.columns) == ["spectral_additive", "lora"]
    assert [cell.prompt for cell in grid.cells] == ["a photo of <rex>", "a photo of <rex-lora>"] * 2
    assert missing(swept, request, ("adapter", "lora, spectral_additive"), ("rank", "4")) == []


def test_ranks_are_compared_within_an_adapter(swept: Workflow):
    request = GenerationRequest(prompt="a <rex-lora>", num_images=1, num_inference_steps=1)
    (*_, grid) = compare(swept, request, ("rank", "2, 4"), ("none", ""))
    assert [cell.prompt for cell in grid.cells] == ["a <rex-lora-r2>", "a <rex-lora>"]


def test_trainings_that_there_are_not_are_named(swept: Workflow):
    request = GenerationRequest(prompt="a <rex> and <Milo>", num_images=1, num_inference_steps=1)
    lacking = missing(swept, request, ("adapter", "spectral_additive, lora"), ("rank", "2, 4"))
    assert [training.name for training in lacking] == ["rex-r2", "Milo-r2", "Milo-lora-r2", "Milo-lora"]
    assert [training.recipe.rank for training in lacking] == [2, 2, 2, 4]
    with pytest.raises(StudioError, match='"rex" was not trained with rank 2 yet'):
        next(iter(compare(swept, request, ("rank", "2"), ("none", ""))))
    with pytest.raises(StudioError, match="Name one in the prompt"):
        missing(swept, GenerationRequest(prompt="a cat"), ("rank", "2"), ("none", ""))
