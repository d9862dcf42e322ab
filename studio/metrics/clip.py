"""CLIP-I and CLIP-T: the alignment of pictures with reference pictures and with prompts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from concepts.environment import BACKBONE_VARIABLE
from concepts.errors import StudioError
from studio.bundled import TOYBOX_CLIP
from studio.hub_access import hub_access
from studio.metrics.identity import Identifier, ImageFeatures, Recognition, load_identifier
from studio.models.families import Family


class Scorer:
    """A CLIP model by open_clip. `backbone` is its name, to report with every score.

    `identifier` is the identity network, where the folder has one.
    """

    def __init__(
        self, backbone: str, model: Any, preprocess: Any, tokenizer: Any, identifier: Identifier | None = None
    ):
        self.backbone, self.identifier = backbone, identifier
        self._model, self._preprocess, self._tokenizer = model.eval(), preprocess, tokenizer

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures as unit vectors (n, d)."""
        rows = [self._model.encode_image(batch) for batch in self._batches(pictures)]
        return F.normalize(torch.cat(rows).float(), dim=-1)

    @torch.inference_mode()
    def extract_features(self, pictures: Sequence[Image.Image]) -> ImageFeatures:
        """The identity network's features of RGB pictures; StudioError for a scorer without one."""
        if self.identifier is None:
            raise StudioError(f"{self.backbone} cannot measure identity accuracy. Use toybox-clip.")
        rows = [self.identifier.network(batch) for batch in self._batches(pictures)]
        return ImageFeatures(torch.cat([vectors for vectors, _ in rows]), torch.cat([intact for _, intact in rows]))

    def _batches(self, pictures: Sequence[Image.Image]) -> list[Tensor]:
        """The preprocessed pictures, (at most 64, 3, side, side) each."""
        groups = [pictures[start : start + 64] for start in range(0, len(pictures), 64)]
        return [torch.stack([self._preprocess(picture) for picture in group]) for group in groups]

    def recognition(
        self, own: Sequence[Image.Image], others: Sequence[Sequence[Image.Image]]
    ) -> Recognition:  # fmt: skip
        """A verifier of the individual in the reference pictures `own` against the `others`."""
        return Recognition(
            self.identifier, self.extract_features(own), [self.extract_features(pictures) for pictures in others]
        )

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts as unit vectors (n, d)."""
        return F.normalize(self._model.encode_text(self._tokenizer(list(texts))).float(), dim=-1)

    def text_alignment(self, pictures: Sequence[Image.Image], prompt: str) -> Tensor:
        """The cosine of each picture and the prompt, (n,) (CLIP-T of DreamBooth, Ruiz et al., 2023)."""
        return self.embed_pictures(pictures) @ self.embed_texts([prompt])[0]

    def image_alignment(self, pictures: Sequence[Image.Image], references: Sequence[Image.Image]) -> Tensor:
        """Each picture's mean cosine to all references, (n,) (CLIP-I of DreamBooth, Ruiz et al., 2023)."""
        return (self.embed_pictures(pictures) @ self.embed_pictures(references).T).mean(1)

    def nearest(self, pictures: Sequence[Image.Image], references: Mapping[str, Sequence[Image.Image]]) -> list[str]:
        """For each picture the name of the reference set of highest mean cosine."""
        names = list(references)
        closest = (self.embed_pictures(pictures) @ self.mean_embeddings(references).T).argmax(1)
        return [names[index] for index in closest.tolist()]

    def mean_embeddings(self, references: Mapping[str, Sequence[Image.Image]]) -> Tensor:
        """The mean embedding of each reference set, (sets, d): the cosine with it is the mean cosine with the set."""
        return torch.stack([self.embed_pictures(pictures).mean(0) for pictures in references.values()])


def scorer_of(family: Family) -> str:
    """The scorer of a family of bases, as `load_scorer` takes it; that of the environment variable if it is set."""
    return os.environ.get(BACKBONE_VARIABLE) or family.scorer


@hub_access()
def load_scorer(source: str = "toybox-clip") -> Scorer:
    """The bundled scorer, a folder in open_clip's format, or an open_clip model as "ViT-B-32/laion2b_s34b_b79k".

    Raises StudioError when there is no such model.
    """
    try:
        if source == "toybox-clip" or Path(source).is_dir():
            folder = TOYBOX_CLIP if source == "toybox-clip" else Path(source)
            model, preprocess = _pretrained(f"local-dir:{folder}")
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
            return Scorer(Path(source).name, model, preprocess, tokenizer, load_identifier(folder))
        name, _, weights = source.partition("/")
        model, preprocess = _pretrained(name, weights or None)
        return Scorer(source, model, preprocess, open_clip.get_tokenizer(name))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise StudioError(
            f"{source!r} could not be loaded as a CLIP model. Give --backbone toybox-clip, an open_clip folder "
            f"or MODEL/WEIGHTS, or set {BACKBONE_VARIABLE} to one."
        ) from error


def _pretrained(source: str, weights: str | None = None) -> tuple[Any, Any]:
    """The model and its preprocessing, by open_clip's call that raises instead of using random weights."""
    loaded: Any = open_clip.create_model_from_pretrained(source, weights)
    return loaded
