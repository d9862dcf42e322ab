"""Evaluates a base on toybox's world as in GenEval (Ghosh et al., 2023), and by the Frechet distance to renders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from studio.metrics.clip import Scorer
from studio.models.base_model import Base, generate_images
from studio.models.sampling_settings import SamplingSettings
from training.toybox.evaluation.prompts import CATEGORIES, EvaluationPrompt, about
from training.toybox.scenes.captions import caption
from training.toybox.scenes.dataset import TEST_SEED, scenes
from training.toybox.scenes.render import draw_scene
from training.toybox.stages.detector import Detection, Detector, detect

RENDERS, GENERATED = 1024, 192
"""The number of unseen renders, and of generated pictures to compare with them."""


def accuracy(asked: Sequence[EvaluationPrompt], detections: Sequence[Detection]) -> dict[str, float]:
    """The share of prompts whose picture is correct, by category."""
    right: dict[str, list[bool]] = {category: [] for category in CATEGORIES}
    for question, detection in zip(asked, detections, strict=True):
        right[question.category].append(question.answered(detection))
    return {category: float(np.mean(answers)) for category, answers in right.items() if answers}


def detector_accuracy(detector: Detector, count: int = RENDERS) -> dict[str, float]:
    """The detector's accuracy on unseen renders, by category."""
    unseen = scenes(0, TEST_SEED, count)
    detections = detect(detector, [draw_scene(scene) for scene in unseen])
    pairs = [(question, found) for scene, found in zip(unseen, detections, strict=True) for question in about(scene)]
    return accuracy([question for question, _ in pairs], [found for _, found in pairs])


@dataclass(frozen=True)
class Distances:
    """The Frechet distance to unseen renders of a base's pictures, and of its autoencoder's reconstructions of renders.

    The latter is a lower bound for pictures of this autoencoder.
    """

    generated: float
    reconstructed: float


def distances(
    base: Base,
    scorer: Scorer,
    settings: SamplingSettings,
    count: int = GENERATED,
    on_step: Callable[[], None] = lambda: None,
) -> Distances:
    """Generates the captions of `count` unseen scenes, and reconstructs the renders of these scenes."""
    rng, wanted = np.random.default_rng(TEST_SEED), scenes(1, TEST_SEED, count)
    prompts = [caption(scene, rng).text for scene in wanted]
    generated = generate_images(base, prompts, range(count), settings, on_step)
    copies = reconstructed(base, [draw_scene(scene, base.side) for scene in wanted], settings.batch_size)
    renders = _embedded(scorer, [draw_scene(scene) for scene in scenes(2, TEST_SEED, RENDERS)])
    return Distances(*(frechet_distance(_embedded(scorer, group), renders) for group in (generated, copies)))


@torch.inference_mode()
def reconstructed(base: Base, pictures: Sequence[Image.Image], batch: int) -> list[Image.Image]:
    """The autoencoder's reconstructions of RGB pictures of the base's side."""
    vae, copies = base.pipeline.vae, []
    for start in range(0, len(pictures), batch):
        latents = base.encode_pictures(pictures[start : start + batch]) / vae.config.scaling_factor
        signal = vae.decode(latents.to(vae.dtype)).sample
        copies += base.pipeline.image_processor.postprocess(signal.float(), "pil")
    return copies


def _embedded(scorer: Scorer, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
    return scorer.embed_pictures(pictures).double().numpy()


def frechet_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The Frechet distance of two sets of vectors (n, d) taken as Gaussian (Heusel et al., 2017, with other features).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), which is 0 or more.
    """
    gap = one.mean(0) - other.mean(0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    return float(max(0.0, gap @ gap + np.trace(first) + np.trace(second) - 2 * shared))
