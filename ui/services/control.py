"""The control images of a request, and the models that read them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from concepts import read_picture
from concepts.errors import StudioError
from studio.models.base_model import Base
from studio.models.families import SD15, SDXL, family_of
from studio.models.generation_request import ControlInput
from ui.services.parsing import numbers_from

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
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@contextmanager
def control_applied(base: Base, control: Sequence[ControlInput], size: tuple[int, int]) -> Iterator[None]:
    """While open, the base's images of this width and height follow these. Each file is decoded, and each model loaded,
    once.

    Raises StudioError for a model that does not fit the base, and LibraryError for a file that is no image.
    """
    if not control:
        yield
        return
    from studio.models.control import ControlCondition, load_control_model, with_control

    images = [read_picture(Path(each.image), Path(each.image).name) for each in control]
    models = [load_control_model(base, each.model or _known(base, each.kind)) for each in control]
    scales = [each.conditioning_scale for each in control]
    with with_control(base, [ControlCondition(*each) for each in zip(images, models, scales, strict=True)], size):
        yield


def control_inputs(images: Sequence[str], models: Sequence[str], scales: Sequence[str]) -> tuple[ControlInput, ...]:
    """KIND:IMAGE arguments with the KIND:MODEL and KIND=SCALE of each.

    Raises StudioError for arguments that do not fit together.
    """
    files, sources = _pairs(images, "--control"), _pairs(models, "--control-model")
    acting = numbers_from(scales, "--conditioning-scale")
    if lost := next((kind for kind in [*sources, *acting] if kind not in files), None):
        raise StudioError(f"There is no control image of the kind {lost}. Give --control {lost}:IMAGE.")
    return tuple(
        ControlInput(kind=kind, image=file, model=sources.get(kind), conditioning_scale=acting.get(kind, 1.0))
        for kind, file in files.items()
    )


def refuse_local_models(control: Sequence[ControlInput]) -> None:
    """Raises StudioError for control models that are none of the hub's: who asks from elsewhere names no files here."""
    models = [each.model for each in control if each.model is not None]
    if wrong := next((name for name in models if not _HUB_ID.fullmatch(name) or Path(name).exists()), None):
        raise StudioError(f"{wrong!r} is not a Hugging Face Hub model ID. Give one such as OWNER/NAME.")


def _pairs(values: Sequence[str], option: str) -> dict[str, str]:
    split = [value.partition(":") for value in values]
    for value, (kind, sign, rest) in zip(values, split, strict=True):
        if not (kind and sign and rest):
            raise StudioError(f"{option} {value!r} has no kind. Write it as KIND:VALUE, such as sketch:{value}.")
    return {kind: rest for kind, _, rest in split}


def _known(base: Base, kind: str) -> str:
    title = family_of(base.parts).title
    found = KNOWN_MODELS.get(title, {}).get(kind)
    if found is None:
        raise StudioError(
            f"There is no default control model of the kind {kind} for {title}. Give --control-model {kind}:FOLDER "
            f"or {kind}:HUB_ID."
        )
    return found
