"""Alignment: how near pictures are to reference pictures and to words, by the embeddings of a CLIP model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from studio.bundled import TOYBOX_CLIP
from studio.errors import StudioError


class Scorer:
    """A CLIP model by open_clip. `backbone` is its name, which every score must carry."""

    def __init__(self, backbone: str, model: Any, preprocess: Any, tokenizer: Any):
        self.backbone = backbone
        self._model, self._preprocess, self._tokenizer = model.eval(), preprocess, tokenizer

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures as unit vectors (n, d)."""
        batches = [pictures[start : start + 64] for start in range(0, len(pictures), 64)]
        rows = [self._model.encode_image(torch.stack([self._preprocess(p) for p in batch])) for batch in batches]
        return F.normalize(torch.cat(rows).float(), dim=-1)

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


def load_scorer(source: str = "toybox-clip") -> Scorer:
    """The bundled scorer, a folder in open_clip's format, or an open_clip model as "ViT-B-32/laion2b_s34b_b79k".

    Raises StudioError when there is no such model.
    """
    try:
        if source == "toybox-clip" or Path(source).is_dir():
            place = f"local-dir:{TOYBOX_CLIP if source == 'toybox-clip' else source}"
            model, preprocess = _pretrained(place)
            return Scorer(Path(source).name, model, preprocess, open_clip.get_tokenizer(place))
        name, _, weights = source.partition("/")
        model, preprocess = _pretrained(name, weights or None)
        return Scorer(source, model, preprocess, open_clip.get_tokenizer(name))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise StudioError(
            f"Give --backbone toybox-clip, an open_clip folder or MODEL/WEIGHTS: {source!r} could not be loaded."
        ) from error


def _pretrained(source: str, weights: str | None = None) -> tuple[Any, Any]:
    """The model and its preprocessing, by the one call of open_clip that refuses to go on with random weights."""
    loaded: Any = open_clip.create_model_from_pretrained(source, weights)
    return loaded
