"""The torch core: base models, adapters, merges, generation, scoring, and other tools' files.

A trained concept is a `TrainedConcept`: `read_concept` reads one from a library, and `training.train` makes one.
`applied` puts concepts into a base for as long as it is open, `generate` makes pictures, `merged_concept` makes one
concept of several, `export` writes files for other tools, and `load_scorer` loads what measures pictures.
`extract_lora` makes a LoRA of two checkpoints, and `resize_lora` changes the rank of one. Names are
imported from their modules when they are first used, and torch with them.
"""

from typing import TYPE_CHECKING

from concepts.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from studio.adapters import ADAPTERS, Adapter
    from studio.adapters.concept_file import TrainedConcept
    from studio.adapters.from_library import read_concept
    from studio.composition import MERGES
    from studio.composition.merge import applied, merged_concept
    from studio.composition.merge_config import MergeConfig
    from studio.formats.exporting import Export, export
    from studio.formats.extracting import Extracted, extract_lora
    from studio.formats.importing import import_concept
    from studio.formats.resizing import Resized, resize_lora
    from studio.layers.rank_choice import RankChoice
    from studio.metrics.clip import Scorer, load_scorer
    from studio.models.base_model import Base, generate, load_base
    from studio.models.generation_request import GenerationRequest
    from studio.models.img2img.init_image import InitImage
    from studio.models.regions.region import AutoRegion, MaskRegion, Region
    from studio.models.sampling_settings import SamplingSettings
    from studio.serving.serving import Request, Serving
else:
    __getattr__, __dir__ = lazy_attributes(
        __name__,
        {
            "studio.adapters": ("ADAPTERS", "Adapter"),
            "studio.adapters.concept_file": ("TrainedConcept",),
            "studio.adapters.from_library": ("read_concept",),
            "studio.composition": ("MERGES",),
            "studio.composition.merge": ("applied", "merged_concept"),
            "studio.composition.merge_config": ("MergeConfig",),
            "studio.formats.exporting": ("Export", "export"),
            "studio.formats.extracting": ("Extracted", "extract_lora"),
            "studio.formats.importing": ("import_concept",),
            "studio.formats.resizing": ("Resized", "resize_lora"),
            "studio.layers.rank_choice": ("RankChoice",),
            "studio.metrics.clip": ("Scorer", "load_scorer"),
            "studio.models.base_model": ("Base", "generate", "load_base"),
            "studio.models.generation_request": ("GenerationRequest",),
            "studio.models.img2img.init_image": ("InitImage",),
            "studio.models.regions.region": ("AutoRegion", "MaskRegion", "Region"),
            "studio.models.sampling_settings": ("SamplingSettings",),
            "studio.serving.serving": ("Request", "Serving"),
        },
    )

__version__ = "0.1.0"

__all__ = [
    "ADAPTERS", "MERGES", "Adapter", "AutoRegion", "Base", "Export", "Extracted", "GenerationRequest", "InitImage",
    "MaskRegion", "MergeConfig", "RankChoice", "Region", "Request", "Resized", "SamplingSettings", "Scorer", "Serving",
    "TrainedConcept", "__version__", "applied", "export", "extract_lora", "generate", "import_concept", "load_base",
    "load_scorer", "merged_concept", "read_concept", "resize_lora",
]  # fmt: skip
