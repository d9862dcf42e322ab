"""--condition options of `studio generate` as conditions of a base."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from concepts import read_picture
from concepts.errors import StudioError
from studio.models.base_model import Base
from studio.models.families import SD15, SDXL, family_of
from ui.services.generation import ImageGenerator
from ui.services.parsing import strengths_from

KNOWN_MODELS = {
    SD15.title: {
        "sketch": "TencentARC/t2iadapter_sketch_sd15v2",
        "pose": "TencentARC/t2iadapter_openpose_sd14v1",
        "depth": "TencentARC/t2iadapter_depth_sd15v2",
    },
    SDXL.title: {
        "sketch": "TencentARC/t2i-adapter-sketch-sdxl-1.0",
        "pose": "TencentARC/t2i-adapter-openpose-sdxl-1.0",
        "depth": "TencentARC/t2i-adapter-depth-midas-sdxl-1.0",
    },
}
"""The hub's T2IAdapters, which are taken where no model is given."""


@contextmanager
def control_applied(
    workflow: ImageGenerator, conditions: Sequence[str], models: Sequence[str], strengths: Sequence[str]
) -> Iterator[None]:
    """While open, the workflow's pictures follow KIND:PICTURE arguments by KIND:MODEL at KIND=STRENGTH.

    Raises StudioError for arguments that do not fit together, and LibraryError for a picture that is none.
    """
    pictures, sources = _pairs(conditions, "--condition"), _pairs(models, "--condition-model")
    acting = strengths_from(strengths, "--condition-strength")
    if lost := next((kind for kind in [*sources, *acting] if kind not in pictures), None):
        raise StudioError(f"Give --condition {lost}:PICTURE as well: there is no picture for it.")
    if not pictures:
        yield
        return
    from studio.models.control import ControlCondition, load_control_model, with_control

    read = {kind: read_picture(Path(file), file) for kind, file in pictures.items()}
    base = workflow.base
    chosen = {kind: load_control_model(base, sources.get(kind) or _known(base, kind)) for kind in read}
    with with_control(base, [ControlCondition(read[kind], chosen[kind], acting.get(kind, 1.0)) for kind in read]):
        yield


def _pairs(values: Sequence[str], option: str) -> dict[str, str]:
    split = [value.partition(":") for value in values]
    for value, (kind, sign, rest) in zip(values, split, strict=True):
        if not (kind and sign and rest):
            raise StudioError(f"Write {option} with a kind in front, as in sketch:{value}: {value!r} has none.")
    return {kind: rest for kind, _, rest in split}


def _known(base: Base, kind: str) -> str:
    title = family_of(base.parts).title
    found = KNOWN_MODELS.get(title, {}).get(kind)
    if found is None:
        raise StudioError(f"Give --condition-model {kind}:FOLDER: no model of {title} is known for it.")
    return found
