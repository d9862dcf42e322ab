"""`studio generate`: images of prompts with concepts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concepts.errors import StudioError
from studio.models.scheduler_names import SCHEDULERS
from ui.cli.generate_like import given_fields, refuse_lost, settings_like
from ui.cli.options import (
    DEFAULT_LIBRARY,
    AverageOption,
    BaseOption,
    ContrastOption,
    DensityOption,
    JsonOption,
    LibraryOption,
    MergeRankOption,
    RidgeOption,
    StrengthOption,
    image_generator_of,
    notify,
    progress_bar,
    report,
    writable,
)
from ui.services.parsing import prompts_from, regions_from, size_from, strengths_from

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.models.generation_request import GenerationRequest
    from ui.services.generation import ImageGenerator
    from ui.services.image_files import OutputFolder


def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; concepts are written <NAME>.", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A text file with one prompt per line, instead of PROMPT.")
    ] = None,
    concept: Annotated[
        list[str],
        typer.Option(
            "--concept", help="A concept, or a file of studio merge, to use although the prompt does not name it."
        ),
    ] = [],  # noqa: B006
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="A merge method of studio merge, or unmerged: the concepts stay separate, and one with a --region "
            "acts only inside it.",
        ),
    ] = None,
    density: DensityOption = None,
    ridge: RidgeOption = None,
    rank: MergeRankOption = None,
    contrast: ContrastOption = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006
    num_images: Annotated[int, typer.Option(help="Number of images per prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="The seed of the first image; each further image has the next seed.")] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(SCHEDULERS)}; the base's own if unset."),
    ] = None,
    num_inference_steps: Annotated[
        int | None, typer.Option(help="Denoising steps; 20 for toybox and 50 for Stable Diffusion if unset.")
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="The classifier-free guidance scale; 4 for toybox, 7.5 for SD 1.x and 2.x, 5 for XL if unset."
        ),
    ] = None,
    guidance_rescale: Annotated[
        float | None,
        typer.Option(
            help="Guidance rescale (Lin et al., 2023), 0 to 1; 0.5 for toybox and 0 for Stable Diffusion if unset."
        ),
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="The negative prompt.")] = "",
    prompt_syntax: Annotated[
        str,
        typer.Option(help="plain, or a1111: (a cat:1.3) weighs words, BREAK begins another window, \\( is a bracket."),
    ] = "plain",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; the base's training size if unset.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images sampled at once; 4 for toybox and 1 for Stable Diffusion if unset.")
    ] = None,
    region: Annotated[
        list[str],
        typer.Option(
            "--region",
            help="auto finds a region for each concept of the prompt while sampling. NAME:top,left,bottom,right is a "
            "concept's box, as fractions or pixels, NAME:FILE its mask, NAME:auto finds its region.",
        ),
    ] = [],  # noqa: B006
    control: Annotated[
        list[str],
        typer.Option("--control", help="KIND:IMAGE, a control image; KIND is sketch, pose, depth or another name."),
    ] = [],  # noqa: B006
    control_model: Annotated[
        list[str], typer.Option("--control-model", help="KIND:FOLDER or KIND:HUB_ID, its T2I-Adapter or ControlNet.")
    ] = [],  # noqa: B006
    conditioning_scale: Annotated[
        list[str],
        typer.Option("--conditioning-scale", help="KIND=SCALE, the strength of the control image; 1 if unset."),
    ] = [],  # noqa: B006
    image: Annotated[
        Path | None, typer.Option(help="A start image, from which the images are generated (img2img).")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="The start image's mask (inpainting): white is repainted, black is kept.")
    ] = None,
    denoising_strength: Annotated[
        float | None,
        typer.Option(
            help="How much of the start image changes, up to 1, which begins from noise alone; 0.75 if unset, 1 with "
            "--mask."
        ),
    ] = None,
    mask_blur: Annotated[
        float | None, typer.Option(help="How far the mask's edge is blurred, in pixels of the image; 4 if unset.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=writable, help="The folder for the images.")
    ] = Path("studio-pictures"),
    like: Annotated[
        Path | None,
        typer.Option(help="A PNG file of the studio or of A1111, whose settings are used where no option is given."),
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Generate images of a prompt, or of each prompt in --prompts, with the concepts that it names."""
    from studio.models.generation_request import GenerationRequest
    from ui.services.control import control_inputs
    from ui.services.gallery import FOLDER
    from ui.services.image_files import OutputFolder

    if (prompt is not None and prompts is not None) or (prompt, prompts, like) == (None, None, None):
        raise StudioError("Give either a prompt, or --prompts FILE with one prompt per line, or --like IMAGE.")
    regions, auto_regions = regions_from(region)
    settings: dict[str, Any] = {
        "concepts": tuple(concept), "method": method, "density": density, "ridge": ridge, "rank": rank,
        "contrast": contrast, "average": average, "strengths": strengths_from(strength),
        "num_images": num_images, "seed": seed, "scheduler": scheduler, "negative_prompt": negative_prompt,
        "prompt_syntax": prompt_syntax, "size": size_from(size), "regions": regions, "auto_regions": auto_regions,
        "control": control_inputs(control, control_model, conditioning_scale),
        "image": image and str(image), "mask": mask and str(mask), "denoising_strength": denoising_strength,
        "mask_blur": mask_blur,
    }  # fmt: skip
    of_the_family = {
        "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
        "guidance_rescale": guidance_rescale, "batch_size": batch_size,
    }  # fmt: skip
    settings |= {name: value for name, value in of_the_family.items() if value is not None}
    if like is not None:
        settings = settings_like(like, {key: settings[key] for key in given_fields(context) if key in settings})
    refuse_lost(context, settings)
    texts = prompts_from(prompts) if prompts else [settings["prompt"] if prompt is None else prompt]
    image_generator = image_generator_of(library, base)
    requests = [GenerationRequest(**{**settings, "prompt": text}) for text in texts]
    requests = [request.with_defaults(image_generator.family) for request in requests]
    folder = OutputFolder(output, image_generator.library.local / FOLDER)
    files = _generate(image_generator, requests, folder, {"base": base})
    folder.check()
    asked = {"prompt": texts[0]} if prompts is None else {"prompts": texts}
    report({**asked, "pictures": files}, as_json, lambda: typer.echo("\n".join(files)))


def _generate(
    image_generator: "ImageGenerator",
    requests: "list[GenerationRequest]",
    folder: "OutputFolder",
    further: dict[str, str],
) -> list[str]:
    """Saves every image as soon as it is sampled, with its settings, under a name of the prompt; the files."""
    from ui.services.gallery import save_masks, with_settings

    files: list[str] = []
    masks: dict[int, Mapping[str, Image]] = {}
    with progress_bar() as bar:
        task = bar.add_task("generating", total=sum(request.total_steps for request in requests), note="")
        for request in requests:
            stem = re.sub(r"[^a-z0-9]+", "-", request.prompt.lower()).strip("-")[:60] or "picture"
            for seed, image in image_generator.generate_each(
                request, lambda: bar.advance(task), notify, masks.__setitem__
            ):
                file = folder.save(f"{stem}-{seed}", with_settings(image, request, seed, further))
                save_masks(file, masks.pop(seed, {}))
                files.append(str(file))
    return files
