"""The verbs of generating: what a prompt names is found in the library, put into the base, and generated."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from threading import RLock

from PIL import Image

from concepts import UnavailableError
from concepts.errors import StudioError
from concepts.storage import StoragePath, read_file, storage_path
from studio.adapters.checkpoint import TrainedConcept, from_bytes
from studio.adapters.from_library import read_concept
from studio.composition import sharing_notes
from studio.composition.merge import MergeCache, MergeConfig
from studio.models.base_model import Base, generate, load_base
from studio.models.generation_request import GenerationRequest
from studio.models.regions import Region
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import token_of
from studio.serving.serving import Request, Serving
from ui.services.open_library import library_at

UNMERGED = "unmerged"
"""In place of a merge method: concepts act on their own as a picture is generated, one with a region inside it
alone.
"""
_KEPT = 16
_NAMED = re.compile(r"<([A-Za-z][\w-]*)>")


class ImageGenerator:
    """One library and one base, loaded when first needed, and how pictures of the library's concepts are generated.

    Threads may share it: they generate one after the other.
    """

    def __init__(self, root: StoragePath | str, base: str = "toybox"):
        self._base = base
        self._loaded: Base | None = None
        self.library = library_at(root)
        self._read: dict[tuple[StoragePath | None, str], TrainedConcept] = {}
        self._turn = RLock()

    @property
    def base(self) -> Base:
        """The base model; its singular columns are kept in the library."""
        if self._loaded is None:
            with self._turn:
                self._loaded = self._loaded or load_base(self._base, self.library.local / "columns")
        return self._loaded

    @cached_property
    def merges(self) -> MergeCache:
        """The models that were merged last."""
        return MergeCache(self.base)

    def trained(self, name: str) -> TrainedConcept:
        """A concept as training left it: by its name, or from a file that `merge` wrote."""
        if name.endswith(".safetensors"):
            return _read_file(name)
        concept = self.library.concept(name)
        # A result's file never changes: another result is another file
        key = (concept.result and concept.result.path, concept.name)
        if key not in self._read:
            self._read = dict([*self._read.items(), (key, read_concept(concept))][-_KEPT:])
        return self._read[key]

    def named_in(self, prompt: str) -> list[str]:
        """The concepts that a prompt names, <NAME>, each once; an unknown one is a LibraryError."""
        return list(dict.fromkeys(self.library.concept(name).name for name in names_written(prompt)))

    def read_prompt(self, prompt: str) -> list[tuple[str, str]]:
        """The prompt in parts: each name, <NAME>, as known, untrained or unknown, and what stands between as plain."""
        found = self.library.find_concepts(names_written(prompt))
        trained = {concept.name.lower(): concept.result is not None for concept in found}
        kinds = {True: "known", False: "untrained", None: "unknown"}
        parts, read = [], 0
        for match in _NAMED.finditer(prompt):
            parts += [(prompt[read : match.start()], "plain"), (match[0], kinds[trained.get(match[1].lower())])]
            read = match.end()
        return [part for part in (*parts, (prompt[read:], "plain")) if part[0]]

    def generate(
        self,
        prompt: str,
        concepts: Sequence[str] = (),
        method: str | None = None,
        strengths: Mapping[str, float] | None = None,
        seeds: Sequence[int] = range(4),
        regions: Mapping[str, tuple[float, float, float, float]] | None = None,
        settings: SamplingSettings | None = None,
        on_step: Callable[[], None] = lambda: None,
        averaged: bool = False,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> list[Image.Image]:
        """Generates one picture a seed, with the concepts that the prompt names and those given beside it.

        `regions` gives a concept a box (top, left, bottom, right), inside which the prompt is read without the other
        concepts; numbers up to 1 are shares of the picture's sides, and if one is greater all four are pixels. `method`
        is one of studio.composition.MERGES or UNMERGED, and `averaged` divides the strengths by the number of concepts.
        `on_note` is told what a person should know about the merge, such as columns that two concepts share.
        """
        with self._turn:
            trained = self._resolve(prompt, concepts, regions or {})
            settings = settings or SamplingSettings()
            size = settings.pixels(self.base)
            boxes = {name: Region(alone(prompt, name), *_share(box, size)) for name, box in (regions or {}).items()}
            plan = MergeConfig(method, known_strengths(strengths, trained), averaged)
            if method == UNMERGED:
                return self._generate_unmerged(trained, prompt, seeds, plan, boxes, settings, on_step)
            for note in sharing_notes(trained):
                on_note(note)
            return self._generate(trained, prompt, seeds, plan, [*boxes.values()], settings, on_step)

    def generated(
        self,
        request: GenerationRequest,
        on_step: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda _: None,
        seeds: Sequence[int] | None = None,
    ) -> list[Image.Image]:
        """The pictures of a request, of these seeds if any are given."""
        return self.generate(
            request.prompt, request.concepts, request.method, request.strengths, seeds or request.seeds,
            request.regions, request.settings, on_step, request.average, on_note,
        )  # fmt: skip

    def generate_each(
        self,
        request: GenerationRequest,
        on_step: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> Iterator[tuple[int, Image.Image]]:
        """The seeds of a request with their pictures, each as soon as it is generated."""
        for seed in request.seeds:
            (picture,) = self.generated(request, on_step, on_note if seed == request.seed else lambda _: None, [seed])
            yield seed, picture

    def _resolve(
        self, prompt: str, concepts: Sequence[str], regions: Mapping[str, object]
    ) -> dict[str, TrainedConcept]:
        """Every concept that takes part, as it was trained: files by their path, others by their name."""
        files = {name: self.trained(name) for name in concepts if name.endswith(".safetensors")}
        held = {token.lower() for concept in files.values() for token in concept.tokens}
        asked = [*_NAMED.findall(prompt), *(name for name in concepts if name not in files), *regions]
        names = dict.fromkeys(self.library.concept(name).name for name in asked if token_of(name).lower() not in held)
        return {**files, **{name: self.trained(name) for name in names}}

    def _generate(
        self,
        trained: Mapping[str, TrainedConcept],
        prompt: str,
        seeds: Sequence[int],
        plan: MergeConfig | None = None,
        regions: Sequence[Region] = (),
        settings: SamplingSettings | None = None,
        on_step: Callable[[], None] = lambda: None,
    ) -> list[Image.Image]:
        with self.merges.applied(trained, plan or MergeConfig()):
            return generate(self.base, prompt, seeds, settings, regions, on_step)

    def _generate_unmerged(
        self,
        trained: Mapping[str, TrainedConcept],
        prompt: str,
        seeds: Sequence[int],
        plan: MergeConfig,
        boxes: Mapping[str, Region],
        settings: SamplingSettings | None,
        on_step: Callable[[], None],
    ) -> list[Image.Image]:
        owners = {token.lower(): name for name, concept in trained.items() for token in concept.tokens}
        regions = {owners[token_of(name).lower()]: region for name, region in boxes.items()}
        if len(regions) < len(boxes):
            raise StudioError("Name the concepts of a merged file one by one: each needs a region of its own.")
        strengths = plan.strengths_for(trained) if trained else {}
        with Serving(self.base, trained) as serving:
            return serving.generate([Request(prompt, seed, strengths, regions) for seed in seeds], settings, on_step)

    def plain(self, prompt: str) -> str:
        """The prompt with every concept's class word in its place, as the scorer can read it."""
        return _NAMED.sub(lambda match: f"a {self.library.concept(match[1]).class_word}", prompt)


def _share(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box as shares of a picture of this width and height; it is in pixels if one of its numbers is above 1."""
    width, height = size if max(box) > 1 else (1, 1)
    top, left, bottom, right = box
    return top / height, left / width, bottom / height, right / width


def names_written(prompt: str) -> list[str]:
    """The names in a prompt, <NAME>, each once, whether there are such concepts or not."""
    return list(dict.fromkeys(_NAMED.findall(prompt)))


def alone(prompt: str, name: str) -> str:
    """The prompt for one of its concepts: what stands before the first name, this one, what follows the last.

    "a photo of <milo> and <rex> on the beach" is "a photo of <rex> on the beach" for rex.
    """
    found = list(_NAMED.finditer(prompt))
    if not found:
        return token_of(name)
    return prompt[: found[0].start()] + token_of(name) + prompt[found[-1].end() :]


def known_strengths(strengths: Mapping[str, float] | None, trained: Mapping[str, TrainedConcept]) -> dict[str, float]:
    """Strengths by the concepts' own names; StudioError for one that is not generated."""
    keys = {name.lower(): name for name in trained}
    for name in strengths or {}:
        if name.lower() not in keys:
            raise StudioError(f"Name {name} in the prompt or leave its strength out: it is not in the picture.")
    return {keys[name.lower()]: value for name, value in (strengths or {}).items()}


def _read_file(name: str) -> TrainedConcept:
    try:
        return from_bytes(read_file(storage_path(name)), name)
    except UnavailableError as error:
        raise StudioError(f"Give a file that studio merge wrote: {name} cannot be read.") from error
