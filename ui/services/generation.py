"""The verbs of generating: what a request names is found in the library, put into the base, and sampled."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock

from PIL import Image

from concepts.errors import StudioError
from concepts.storage import StoragePath
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.from_library import read_concept
from studio.composition import sharing_notes
from studio.composition.loaded_concept import LoadedConcept, load_concept
from studio.composition.merge import MergeCache
from studio.composition.merge_config import MergeConfig, refuse_parameters
from studio.models.base_model import Base, generate, load_base
from studio.models.families import Family
from studio.models.family_detection import family_of_source
from studio.models.generation_request import GenerationRequest
from studio.models.img2img.init_image import InitImage, placed
from studio.models.prompt_names import read_names
from studio.models.regions.region import AnyRegion
from studio.models.token_embeddings import token_of
from studio.serving.serving import Request, Serving
from ui.services.control import control_applied
from ui.services.init_image import init_image_of
from ui.services.named_concepts import (
    NAMED,
    is_concept_file,
    known_strengths,
    name_and_step,
    names_written,
    prompt_notes,
    read_concept_file,
    refuse_other_paths,
    with_steps,
)
from ui.services.open_library import library_at
from ui.services.regions import OnMasks, as_pictures, regions_of
from ui.services.snapshots import at_step

UNMERGED = "unmerged"
"""In place of a merge method: concepts act on their own as an image is sampled, one with a region inside it alone."""
Sampler = Callable[[Sequence[int], Callable[[], None]], list[Image.Image]]
"""From seeds, and what is to be called after every denoising step of a batch, to one image a seed."""
_KEPT = 16


class ImageGenerator:
    """One library and one base, loaded when first needed, and how images of the library's concepts are generated.

    Threads may share it: their requests are sampled one after the other.
    """

    def __init__(self, root: StoragePath | str, base: str = "toybox"):
        self._base = base
        self._loaded: Base | None = None
        self.library = library_at(root)
        self._read: dict[tuple[StoragePath | None, str], TrainedConcept] = {}
        self._loading, self._turn = Lock(), Lock()

    @property
    def base(self) -> Base:
        """The base model; its singular columns are kept in the library."""
        if self._loaded is None:
            with self._loading:
                self._loaded = self._loaded or load_base(self._base, self.library.local / "columns")
        return self._loaded

    @cached_property
    def family(self) -> Family:
        """The base's family, for which the base is not loaded."""
        return family_of_source(self._base)

    @cached_property
    def merges(self) -> MergeCache:
        """The models that were merged last."""
        return MergeCache(self.base)

    def trained(self, name: str) -> TrainedConcept:
        """A concept as training left it: by its name, from a file, as `read_concept_file` reads it, or a snapshot,
        NAME@STEP.
        """
        if is_concept_file(name):
            return read_concept_file(name)
        refuse_other_paths(name)
        name, step = name_and_step(name)
        concept = self.library.concept(name) if step is None else at_step(self.library, name, step)
        # A result's file never changes: another result is another file
        key = (concept.result and concept.result.path, concept.name)
        if key not in self._read:
            self._keep(key, read_concept(concept))
        return self._read[key]

    def loaded(self, name: str) -> LoadedConcept:
        """What `trained` gives, built on the base: once for all that merge, serve or export it."""
        trained = self.trained(name)
        loaded = load_concept(self.base, trained)
        for key in [key for key, kept in self._read.items() if kept is trained]:
            self._keep(key, loaded)
        return loaded

    def _keep(self, key: tuple[StoragePath | None, str], concept: TrainedConcept) -> None:
        self._read = dict([*(self._read | {key: concept}).items()][-_KEPT:])

    def named_in(self, prompt: str) -> list[str]:
        """The concepts that a prompt names, <NAME>, each once; an unknown one is a LibraryError."""
        return list(dict.fromkeys(self.library.concept(name).name for name in names_written(prompt)))

    def read_prompt(self, prompt: str) -> list[tuple[str, str]]:
        """The prompt in parts: each name, <NAME>, as known, untrained or unknown, and what stands between as plain."""
        found = self.library.find_concepts(names_written(prompt))
        trained = {concept.name.lower(): concept.result is not None for concept in found}
        kinds = {True: "known", False: "untrained", None: "unknown"}
        parts, read = [], 0
        for match in NAMED.finditer(prompt):
            parts += [(prompt[read : match.start()], "plain"), (match[0], kinds[trained.get(match[1].lower())])]
            read = match.end()
        return [part for part in (*parts, (prompt[read:], "plain")) if part[0]]

    def generate(
        self,
        request: GenerationRequest,
        on_step: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> list[Image.Image]:
        """The images of a request, one a seed, as `generate_each` samples them."""
        return [image for _, image in self.generate_each(request, on_step, on_note)]

    def generate_each(
        self,
        request: GenerationRequest,
        on_step: Callable[[], None] = lambda: None,
        on_note: Callable[[str], None] = lambda _: None,
        on_masks: OnMasks = lambda _seed, _masks: None,
        located: bool = False,
    ) -> Iterator[tuple[int, Image.Image]]:
        """The seeds of a request with their images, each batch as soon as it is sampled.

        The request's concepts stay in the base until the last image is taken or the iterator is closed; other requests
        wait until then. `on_step` is called after every denoising step of a batch, `on_note` is told what a person
        should know about the merge, such as columns that two concepts share, and `on_masks` each image's regions;
        with `located`, where the concepts are in an image without regions.
        """
        request = request.with_defaults(self.family)
        with self._turn, self._session(request, on_note, on_masks, located) as sample:
            for start in range(0, request.num_images, request.batch_size):
                seeds = request.seeds[start : start + request.batch_size]
                yield from zip(seeds, sample(seeds, on_step), strict=True)

    def wait(self) -> None:
        """Returns when no request is being sampled any more."""
        with self._turn:
            pass

    @contextmanager
    def _session(
        self, request: GenerationRequest, on_note: Callable[[str], None], on_masks: OnMasks, located: bool
    ) -> Iterator[Sampler]:
        """While open, the base has the concepts and control images of the request; gives what samples seeds of it."""
        request, init_image = placed(init_image_of(request), request, self.base)
        request, steps = with_steps(request)
        concepts = self._concepts_of(request, steps)
        config = MergeConfig(
            request.method, known_strengths(request.strengths, concepts, self.base), request.average,
            request.density, request.ridge, request.rank, request.contrast,
        )  # fmt: skip
        size = request.pixels(self.base)
        regions = regions_of(request, size, located)
        session = self._unmerged if request.method == UNMERGED else self._merged
        with (
            control_applied(self.base, request.control, size),
            session(request, concepts, config, regions, init_image, on_masks) as sample,
        ):
            for note in () if request.method == UNMERGED else sharing_notes(concepts):
                on_note(note)
            for note in prompt_notes(request):
                on_note(note)
            yield sample

    def _concepts_of(self, request: GenerationRequest, steps: Mapping[str, int]) -> dict[str, LoadedConcept]:
        """Every concept that takes part, built on the base: files by their path, others by their name, at these steps
        of their trainings where some are given.
        """
        files = {name: self.loaded(name) for name in request.concepts if is_concept_file(name)}
        held = {token.lower() for concept in files.values() for token in concept.tokens}
        others = [name for name in request.concepts if name not in files]
        for name in others:
            refuse_other_paths(name)
        asked = [*names_written(f"{request.prompt} {request.negative_prompt}"), *others, *request.regions]
        names = dict.fromkeys(self.library.concept(name).name for name in asked if token_of(name).lower() not in held)
        at = {name: f"{name}@{steps[name.lower()]}" if name.lower() in steps else name for name in names}
        return {**files, **{name: self.loaded(wanted) for name, wanted in at.items()}}

    @contextmanager
    def _merged(
        self,
        request: GenerationRequest,
        concepts: Mapping[str, LoadedConcept],
        config: MergeConfig,
        regions: Mapping[str, AnyRegion],
        init_image: InitImage | None,
        on_masks: OnMasks,
    ) -> Iterator[Sampler]:
        with self.merges.applied(concepts, config):
            yield lambda seeds, on_step: generate(
                self.base, request.prompt, seeds, request, [*regions.values()], on_step,
                as_pictures(regions, on_masks), init_image,
            )  # fmt: skip

    @contextmanager
    def _unmerged(
        self,
        request: GenerationRequest,
        concepts: Mapping[str, LoadedConcept],
        config: MergeConfig,
        regions: Mapping[str, AnyRegion],
        init_image: InitImage | None,
        on_masks: OnMasks,
    ) -> Iterator[Sampler]:
        refuse_parameters(UNMERGED, config.parameters, {})
        owners = {token.lower(): name for name, concept in concepts.items() for token in concept.tokens}
        placed = {owners[token_of(name).lower()]: region for name, region in regions.items()}
        if len(placed) < len(regions):
            raise StudioError(
                "A merged file cannot have regions with unmerged. Name its concepts separately instead, each "
                "with a region."
            )
        strengths = config.strengths_for(concepts) if concepts else {}
        with Serving(self.base, concepts) as serving:
            yield lambda seeds, on_step: serving.generate(
                [Request(request.prompt, seed, strengths, placed) for seed in seeds], request, on_step,
                init_image=init_image, on_regions=as_pictures(regions, on_masks),
            )  # fmt: skip

    def plain(self, prompt: str) -> str:
        """The prompt with every concept's class word in its place, as the scorer can read it; names are read as in
        `GenerationRequest`.
        """
        read, _ = read_names(prompt)
        return NAMED.sub(lambda match: f"a {self.library.concept(match[1]).class_word}", read)
