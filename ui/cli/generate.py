"""`studio generate`: generates pictures of a prompt with concepts."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ui.cli.options import (
    DEFAULT_LIBRARY,
    AverageOption,
    BaseOption,
    JsonOption,
    LibraryOption,
    StrengthOption,
    image_generator_of,
    notify,
    progress_bar,
    report,
)
from ui.services.parsing import regions_from, size_from, strengths_from

if TYPE_CHECKING:
    from PIL import Image

    from studio.models.generation_request import GenerationRequest


def generate(
    prompt: Annotated[str, typer.Argument(help="The prompt; concepts are written <NAME>.")],
    concept: Annotated[list[str], typer.Option("--concept", help="A concept, or a merged file, to load as well.")] = [],  # noqa: B006
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="As for studio merge, or unmerged: concepts apply separately, one with a region only inside it.",
        ),
    ] = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006
    num_images: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 4,
    seed: Annotated[int, typer.Option(help="The first picture's seed; it rises by 1 for each further picture.")] = 0,
    num_inference_steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance_scale: Annotated[float, typer.Option(help="The classifier-free guidance scale.")] = 4.0,
    negative: Annotated[str, typer.Option(help="The negative prompt.")] = "",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; the base's training size if unset.")] = None,
    region: Annotated[
        list[str], typer.Option("--region", help="NAME:top,left,bottom,right, a concept's region, each from 0 to 1.")
    ] = [],  # noqa: B006
    condition: Annotated[
        list[str], typer.Option("--condition", help="KIND:PICTURE, a control image: a sketch, pose or depth map.")
    ] = [],  # noqa: B006
    condition_model: Annotated[
        list[str], typer.Option("--condition-model", help="KIND:FOLDER or KIND:HUB_ID, its T2IAdapter or ControlNet.")
    ] = [],  # noqa: B006
    condition_strength: Annotated[
        list[str], typer.Option("--condition-strength", help="KIND=1.0: the conditioning scale.")
    ] = [],  # noqa: B006
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for the pictures.")] = Path(
        "studio-pictures"
    ),
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Generate pictures of a prompt, with the concepts that it names."""
    from studio.models.generation_request import GenerationRequest
    from ui.services.control import control_applied

    request = GenerationRequest(
        prompt=prompt, concepts=tuple(concept), method=method, strengths=strengths_from(strength), average=average,
        seed=seed, num_images=num_images, num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale, negative_prompt=negative, size=size_from(size),
        regions=regions_from(region),
    )  # fmt: skip
    workflow = image_generator_of(library, base)
    following = control_applied(workflow, condition, condition_model, condition_strength)
    with following, progress_bar() as bar:
        task = bar.add_task(
            "generating", total=num_inference_steps * -(-num_images // request.settings.batch_size), note=""
        )
        pictures = workflow.generated(request, lambda: bar.advance(task), notify)
    kept = {"base": base, "conditions": ", ".join(condition), "condition_models": ", ".join(condition_model)}
    files = _write(output, request, pictures, kept)
    report({"prompt": prompt, "pictures": files}, as_json, lambda: typer.echo("\n".join(files)))


def _write(
    folder: Path, request: "GenerationRequest", pictures: "list[Image.Image]", kept: dict[str, Any]
) -> list[str]:
    """Writes the pictures with their settings into a folder, under names of the prompt; the files."""
    from ui.services.image_files import png_bytes, save_new

    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^a-z0-9]+", "-", request.prompt.lower()).strip("-")[:60] or "picture"
    return [
        str(save_new(folder, f"{stem}-{seed}", png_bytes(picture, {**request.text(seed), **kept})))
        for seed, picture in zip(request.seeds, pictures, strict=True)
    ]
