"""One base that serves many concepts without merging them: each request, and each picture of a batch, has its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from PIL import Image

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.injection import change_output
from studio.composition.loaded_concept import load_concept
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from studio.models.img2img.init_image import InitImage, placed
from studio.models.layer_strengths import Strength
from studio.models.prompt_encoding import PromptEmbeds, matched
from studio.models.regions.layout import OnRegions, RegionLayout, layout_for
from studio.models.regions.region import AnyRegion, AutoRegion
from studio.models.regions.sampling import denoise_in_regions
from studio.models.sampling_settings import SamplingSettings
from studio.models.token_embeddings import load_tokens, remove_tokens
from studio.serving.region_shares import shares_in_context, shares_in_space
from studio.serving.routing import Routed, RoutedOutput, Shares, batched_lora_of, routed
from studio.serving.served_concept import ServedConcept


@dataclass(frozen=True)
class Request:
    """One picture: its prompt and seed, the strength of each concept that takes part, and the regions of some.

    A concept with a region acts inside it and on its region's prompt alone; the others act everywhere. One whose region
    is to be found acts everywhere until then.
    """

    prompt: str
    seed: int = 0
    concepts: Mapping[str, Strength] = field(default_factory=dict)
    regions: Mapping[str, AnyRegion] = field(default_factory=dict)

    def layout(self) -> tuple[object, ...]:
        """Which concepts act where, if there are regions: pictures of the same layout can share a batch."""
        places = [(name, region.place) for name, region in self.regions.items()]
        return (*places, *self.concepts) if places else ()


class Serving:
    """A base with any number of concepts loaded beside one another; `close` gives the base back as it was.

    Loading brings a concept's token and computes its products once. A request then only says which products are used,
    which takes milliseconds, and the pictures of one batch may use different ones.
    """

    def __init__(self, base: Base, concepts: Mapping[str, TrainedConcept] | None = None):
        self.base = base
        self._loaded: dict[str, ServedConcept] = {}
        self._layers: dict[str, tuple[Site, Routed]] = {}
        self._contexts = set(base.sites_of(("cross_attention_kv",)))
        try:
            for name, concept in (concepts or {}).items():
                self.load(name, concept)
        except BaseException:
            self.close()
            raise

    def load(self, name: str, concept: TrainedConcept) -> None:
        """Make a concept ready. StudioError for one of another base, or that changes norms."""
        if name in self._loaded:
            self.unload(name)
        served = ServedConcept(name, load_concept(self.base, concept))
        added: list[str] = []
        try:
            for token, parts in concept.tokens.items():
                load_tokens(self.base.text_encoders, token, parts)
                added.append(token)
        except BaseException:
            self._forget(added)
            raise
        self._loaded[name] = served
        for site_name, site in served.sites.items():
            if site_name not in self._layers and (layer := routed(site)):
                self._layers[site_name] = site, layer

    def unload(self, name: str) -> None:
        """Take a concept out of memory."""
        self._forget(self._loaded.pop(name).concept.tokens)

    def close(self) -> None:
        """Unload everything."""
        for name in list(self._loaded):
            self.unload(name)

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forget(self, tokens: Sequence[str] | Mapping[str, object]) -> None:
        for token in tokens:
            remove_tokens(self.base.text_encoders, token)

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings | None = None,
        on_step: Callable[[], None] = lambda: None,
        output: str = "pil",
        init_image: InitImage | None = None,
        on_regions: OnRegions = lambda _seed, _masks: None,
    ) -> list[Image.Image]:
        """One picture for each request; without regions any of them share a batch, with regions those of one layout.
        All begin from the start image if there is one.

        `on_step` is called after every denoising step of every batch, and `on_regions` for each picture with regions.
        StudioError for a concept that is not loaded.
        """
        settings = (settings or SamplingSettings()).with_defaults(self.base.family)
        settings, init_image = placed(init_image, settings, self.base)
        for name in {name for request in requests for name in (*request.concepts, *request.regions)}:
            if name not in self._loaded:
                raise StudioError(
                    f"{name} is not loaded; loaded are {', '.join(self._loaded) or 'none'}. Load it first."
                )
        groups: dict[object, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.layout(), []).append(index)
        pictures: dict[int, Image.Image] = {}
        with self.base.autocast(), self._routed():
            for group in groups.values():
                for start in range(0, len(group), settings.batch_size):
                    batch = group[start : start + settings.batch_size]
                    own = [requests[index] for index in batch]
                    generated = self._generate_batch(own, settings, output, on_step, init_image, on_regions)
                    pictures |= dict(zip(batch, generated, strict=True))
        return [pictures[index] for index in range(len(requests))]

    def _generate_batch(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        output: str,
        on_step: Callable[[], None],
        init_image: InitImage | None,
        on_regions: OnRegions,
    ) -> Sequence[Image.Image]:
        embeds = self._contexts_of(requests, settings)
        layout = layout_for(
            self.base, [request.prompt for request in requests], [*requests[0].regions.values()], settings, init_image
        )
        self.use(requests, layout)
        return denoise_in_regions(
            self.base, layout, embeds, [request.seed for request in requests], settings, output, on_step, init_image,
            on_regions, lambda: self.use(requests, layout),
        )  # fmt: skip

    def _contexts_of(
        self, requests: Sequence[Request], settings: SamplingSettings
    ) -> tuple[PromptEmbeds, PromptEmbeds]:
        """What the UNet reads with and without guidance, n rows of tokens × (1 + regions) each.

        The text encoder adapts each prompt by its own concepts: a region's by its own, the rest by the others.
        """
        prompts, rows = [], []
        for request in requests:
            prompts += [request.prompt, *(region.prompt for region in request.regions.values())]
            rows += [self._everywhere(request), *({name: self._strength(request, name)} for name in request.regions)]
        for part in self.base.text_encoders:
            self._route(rows, part)
        encoded = self.base.encode(prompts, settings.prompt_syntax)
        for part in self.base.text_encoders:
            self._route([self._everywhere(request) for request in requests], part)
        unwanted = self.base.encode_negative_prompts([settings.negative_prompt] * len(requests), settings.prompt_syntax)
        return matched(encoded, len(prompts) // len(requests), unwanted)

    def use(self, requests: Sequence[Request], layout: RegionLayout | None = None) -> None:
        """Have the UNet's layers adapt a batch of these requests, whose regions lie as in `layout` now."""
        rows = [{name: self._strength(r, name) for name in {**r.concepts, **r.regions}} for r in requests]
        regions = requests[0].regions
        if layout is None or not regions:
            self._route(rows, "unet")
            return

        def shares(site: str, present: Sequence[str]) -> Shares:
            if site in self._contexts:
                return shares_in_context(present, list(regions), layout)
            return shares_in_space(present, list(regions), layout)

        self._route(rows, "unet", shares)

    @staticmethod
    def _strength(request: Request, name: str) -> Strength:
        return request.concepts.get(name, 1.0)

    @staticmethod
    def _everywhere(request: Request) -> dict[str, Strength]:
        """The concepts that the picture's own prompt is encoded with."""
        confined = {name for name, region in request.regions.items() if not isinstance(region, AutoRegion)}
        return {name: strength for name, strength in request.concepts.items() if name not in confined}

    def _route(
        self,
        rows: Sequence[Mapping[str, Strength]],
        part: str,
        shares: Callable[[str, Sequence[str]], Shares | None] = lambda _site, _present: None,
    ) -> None:
        """Set what the part's layers add in each row of a batch: concepts by name with their strengths."""
        device = self.base.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        parts = [[self._loaded[name].factors(strength) for name, strength in row.items()] for row in rows]
        for name, (site, layer) in self._layers.items():
            if site.part == part:
                present = [[own[name] for own in row if name in own] for row in parts]
                acting = [concept for concept in rows[0] if name in self._loaded[concept].sites]
                layer.route = batched_lora_of(present, dtype, shares(name, acting))

    @contextmanager
    def _routed(self) -> Iterator[None]:
        """While open, the routed layers stand in the model."""
        with ExitStack() as undo:
            for site, layer in self._layers.values():
                undo.callback(setattr, layer, "route", None)
                if isinstance(layer, RoutedOutput):
                    undo.callback(change_output(site, layer))
                else:
                    undo.callback(setattr, site.parent, site.attribute, site.module)
                    setattr(site.parent, site.attribute, layer)
            yield
