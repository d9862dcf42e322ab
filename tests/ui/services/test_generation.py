from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concepts import Library, LibraryError
from concepts.errors import StudioError
from studio.adapters.concept_file import from_bytes
from studio.composition import merge
from studio.models.generation_request import GenerationRequest
from studio.models.regions.region import Region
from training.config.recipe import Recipe
from ui.services import generation
from ui.services import workflow as module
from ui.services.generation import UNMERGED
from ui.services.named_concepts import alone
from ui.services.workflow import Workflow


def generate(
    workflow: Workflow, prompt: str, on_note: Callable[[str], None] = lambda _: None, **settings: Any
) -> list[Image.Image]:
    return workflow.generate(GenerationRequest(prompt=prompt, **settings), on_note=on_note)


SMALL = Recipe(rank=4, steps=2, batch_size=4, num_class_images=2)
QUICK: dict[str, Any] = {"seed": 3, "num_images": 1, "num_inference_steps": 2}


@pytest.fixture
def generated(monkeypatch) -> list[dict[str, Any]]:
    """What reaches the image_generator: the prompt's regions, and the words that the tokenizer then keeps whole."""
    calls: list[dict[str, Any]] = []

    def sampled(base: Any, prompt: str, seeds: Any, settings: Any, regions: Any, *_: Any) -> list[Image.Image]:
        words = {word for word in base.pipeline.tokenizer.get_added_vocab() if word[1] != "|"}
        calls.append({"prompt": prompt, "words": words, "regions": regions})
        return [Image.new("RGB", (16, 16)) for _ in seeds]

    monkeypatch.setattr(generation, "generate", sampled)
    return calls


def test_the_concepts_of_a_prompt_are_loaded_and_no_others(workflow: Workflow, generated):
    generate(workflow, "a <REX> and a <milo>, <rex> again")
    generate(workflow, "a cat on the beach")
    generate(workflow, "a cat", concepts=["rex", "lora"])
    assert [call["words"] for call in generated] == [{"<rex>", "<Milo>"}, set(), {"<rex>", "<lora>"}]
    assert not [w for w in workflow.base.pipeline.tokenizer.get_added_vocab() if w[1] != "|"]


def test_each_region_reads_the_prompt_without_the_other_concepts(workflow: Workflow, generated):
    boxes = {"rex": (0, 0, 1, 0.5), "Milo": (0, 8, 16, 16)}
    generate(workflow, "a photo of <rex> and <Milo> on the beach", regions=boxes)
    assert generated[0]["regions"] == [
        Region("a photo of <rex> on the beach", 0, 0, 1, 0.5),
        Region("a photo of <Milo> on the beach", 0, 0.5, 1, 1),
    ]


def test_a_region_alone_brings_its_concept(workflow: Workflow, generated):
    generate(workflow, "a beach", regions={"rex": (0, 0, 1, 1)})
    assert generated[0]["words"] == {"<rex>"}
    assert generated[0]["regions"] == [Region("<rex>", 0, 0, 1, 1)]


@pytest.mark.parametrize(
    ("prompt", "name", "expected"),
    [
        ("a photo of <milo> and <rex> on the beach", "rex", "a photo of <rex> on the beach"),
        ("a photo of <milo>", "milo", "a photo of <milo>"),
        ("<milo>, <rex> and <tom>", "rex", "<rex>"),
        ("a beach", "rex", "<rex>"),
    ],
)
def test_a_prompt_for_one_of_its_concepts(prompt: str, name: str, expected: str):
    assert alone(prompt, name) == expected


def test_the_scorer_reads_class_words(workflow: Workflow):
    assert workflow.plain("a photo of <rex> and <MILO> at night") == "a photo of a dog and a cat at night"
    with pytest.raises(LibraryError, match="nobody"):
        workflow.plain("<nobody>")


def test_a_strength_of_zero_generates_what_the_base_generates(workflow: Workflow):
    def first(**options: Any) -> np.ndarray:
        return np.asarray(generate(workflow, "a cat", **QUICK, **options)[0], dtype=float)

    assert np.array_equal(first(), first(concepts=["rex"], strengths={"REX": 0.0}))
    assert not np.array_equal(first(), first(concepts=["rex"]))


def test_a_merged_file_stands_for_its_concepts(workflow: Workflow, generated, tmp_path):
    file = tmp_path / "both.safetensors"
    merged = workflow.merge(["rex", "milo"], file)
    assert from_bytes(file.read_bytes(), "both").tokens.keys() == merged.tokens.keys()
    workflow.library.remove_concept("rex")
    generate(workflow, "a <REX>, a <milo> and a <lora>", concepts=[str(file)])
    assert generated[0]["words"] == {"<rex>", "<Milo>", "<lora>"}
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StudioError, match=r"both\.safetensors is damaged, or not the file of a concept"):
        generate(workflow, "a <rex>", concepts=[str(file)])


def test_a_torn_result_is_told(workflow: Workflow):
    result = workflow.library.concept("rex").result
    assert result
    result.path.write_bytes(result.path.read_bytes()[:-9])
    with pytest.raises(StudioError, match='The file of "rex" is damaged, or not the file of a concept'):
        generate(workflow, "a <rex>")


def test_a_concept_of_another_base_is_refused(workflow: Workflow, library: Library, base, make_concept):
    foreign = replace(make_concept(base, "idle"), base="0123456789abcdef")
    details = {"base": foreign.base, "adapter": foreign.adapter, "rank": 4, "parameters": 1}
    library.store_result("idle", module.to_bytes(foreign), details)
    with pytest.raises(StudioError, match="trained on another base: its fingerprint is 0123"):
        generate(workflow, "an <idle>")


def test_each_merge_is_made_once(workflow: Workflow, generated, monkeypatch):
    merges = []
    real = merge.merged_changes
    monkeypatch.setattr(merge, "merged_changes", lambda *given: merges.append(1) or real(*given))
    for prompt in ("a <rex> and a <Milo>", "a <milo> beside a <rex>"):
        generate(workflow, prompt)
    assert len(merges) == 1
    generate(workflow, "a <rex> and a <Milo>", average=True)
    generate(workflow, "a <rex> and a <Milo>", method="ties", strengths={"rex": 0.5})
    assert len(merges) == 3
    workflow.train("rex", SMALL)
    generate(workflow, "a <rex> and a <Milo>", average=True)
    assert len(merges) == 5, "the previews of the new training, and the merge with it"


def test_what_a_joint_merge_shares_is_told(workflow: Workflow, generated, tmp_path, base, make_concept):
    notes: list[str] = []
    generate(workflow, "a <rex> and a <Milo>", on_note=notes.append)
    assert notes == []
    foreign = make_concept(base, "idle", rank=6, first_column=2)
    block = workflow.claim("idle", foreign)
    assert block
    assert block.note() == ("It shares columns 4 to 7 with Milo, 2 to 3 with rex: merged, their changes add up there.")
    assert workflow.library.concept("idle").columns[0].shared_with == ("Milo", "rex")
    details = {"base": foreign.base, "adapter": foreign.adapter, "rank": 6, "parameters": 4}
    workflow.library.store_result("idle", module.to_bytes(foreign), details)
    generate(workflow, "a <rex> and an <idle>", on_note=notes.append)
    workflow.merge(["idle", "Milo"], tmp_path / "both.safetensors", on_note=notes.append)
    assert notes == [
        "rex and idle share 2 of their columns (2 to 3): merged, their changes there add up.",
        "idle and Milo share 4 of their columns (4 to 7): merged, their changes there add up.",
    ]
    assert workflow.claim("lora", make_concept(base, "lora", "lora")) is None


def test_concepts_are_generated_unmerged(workflow: Workflow, tmp_path):
    def first(method: str | None, **options: Any) -> np.ndarray:
        prompt = "a photo of <rex> and <Milo>"
        return np.asarray(generate(workflow, prompt, method=method, **QUICK, **options)[0], dtype=float)

    merged, unmerged = first("fedavg"), first(UNMERGED)
    assert np.abs(merged - unmerged).mean() < 3
    boxes = {"REX": (0, 0, 1, 0.5), "milo": (0, 8, 16, 16)}
    apart = first(UNMERGED, regions=boxes)
    assert not np.array_equal(apart, first("fedavg", regions=boxes))
    assert not np.array_equal(apart, first(UNMERGED, regions=boxes, strengths={"rex": 0.0}))
    assert not [w for w in workflow.base.pipeline.tokenizer.get_added_vocab() if w[1] != "|"]
    both = tmp_path / "both.safetensors"
    workflow.merge(["rex", "milo"], both)
    with pytest.raises(StudioError, match="cannot have regions with unmerged"):
        first(UNMERGED, concepts=[str(both)], regions=boxes)


def test_a_renamed_concept_is_generated_by_its_new_name(workflow: Workflow, generated):
    workflow.library.rename_concept("REX", "Fido", "hound")
    assert workflow.library.concept("fido").class_word == "hound"
    assert list(workflow.trained("fido").tokens) == ["<Fido>"]
    generate(workflow, "a <fido> and a <milo>")
    assert {"<Fido>", "<Milo>"} <= generated[-1]["words"]
    with pytest.raises(LibraryError, match="already"):
        workflow.library.rename_concept("fido", "MILO")
    with pytest.raises(LibraryError, match="is not a valid name"):
        workflow.library.rename_concept("fido", "../x")
    assert workflow.library.rename_concept("fido", "FIDO").name == "FIDO"


def test_a_prompt_is_read_in_parts(workflow: Workflow):
    assert workflow.read_prompt("a <REX> and <idle>, <nobody>") == [
        ("a ", "plain"), ("<REX>", "known"), (" and ", "plain"), ("<idle>", "untrained"), (", ", "plain"),
        ("<nobody>", "unknown"),
    ]  # fmt: skip
    assert workflow.read_prompt("") == []


def test_pictures_come_one_after_the_other(workflow: Workflow):
    request = GenerationRequest(prompt="a <rex>", seed=3, num_images=2, num_inference_steps=1, batch_size=1)
    steps: list[None] = []
    each = workflow.generate_each(request, lambda: steps.append(None))
    seed, picture = next(each)
    assert (seed, len(steps)) == (3, 1)
    assert [seed for seed, _ in each] == [4]
    (alone,) = workflow.generate(request.model_copy(update={"num_images": 1}))
    assert np.array_equal(np.asarray(picture), np.asarray(alone))


@pytest.mark.parametrize(
    ("prompt", "settings", "notes"),
    [
        ("a <rex>", {"negative_prompt": "a < rex >"}, []),
        ("a <rex", {}, ["The prompt has <rex, which is no name here"]),
        ("a dog", {"negative_prompt": "rex> a"}, ["The negative prompt has rex>"]),
        ("a dog", {"negative_prompt": "(a:2)"}, ["The negative prompt has weights"]),
    ],
)  # fmt: skip
def test_what_is_read_as_it_stands_is_told(workflow: Workflow, prompt: str, settings: dict[str, Any], notes: list[str]):
    told: list[str] = []
    generate(workflow, prompt, told.append, **QUICK, **settings)
    assert len(told) == len(notes)
    assert all(said.startswith(note) for said, note in zip(told, notes, strict=True))


def test_a_concept_of_the_negative_prompt_takes_part(workflow: Workflow):
    (plain,) = generate(workflow, "a dog", **QUICK, negative_prompt="a cat")
    (named,) = generate(workflow, "a dog", **QUICK, negative_prompt="a <lora:rex>")
    assert np.array(plain).tolist() != np.array(named).tolist()
    with pytest.raises(LibraryError, match='no concept "nobody"'):
        generate(workflow, "a dog", **QUICK, negative_prompt="a <nobody>")
    with pytest.raises(StudioError, match=r"The negative prompt has .* tokens"):
        generate(workflow, "a dog", **QUICK, negative_prompt="dog " * 700)
    assert workflow.plain("a < rex > and <rex:0.8>") == "a a dog and a dog"
