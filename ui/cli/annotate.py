"""`studio caption` and `studio mask`: captions and masks by models that the user has."""

from pathlib import Path
from typing import Annotated

import typer

from concepts.errors import StudioError
from ui.cli.options import JsonOption, pictures_in, progress_bar, report, writable

Pictures = Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")]


def caption(
    pictures: Pictures,
    model: Annotated[
        str,
        typer.Option(
            "--with", help="The captioning model, BLIP or Florence-2: a folder or a Hugging Face Hub model ID."
        ),
    ],
    again: Annotated[
        bool, typer.Option("--again", help="Also caption pictures that have a caption, and overwrite it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a caption file for each picture, such as 1.txt for 1.jpg; review the captions before training."""
    from concepts import atomic_write, read_picture
    from studio.annotation.captioning import load_captioner

    files = [file for file in _files(pictures) if again or not file.with_suffix(".txt").exists()]
    captioner, written = load_captioner(model) if files else None, {}
    with progress_bar() as bar:
        task = bar.add_task("captions", total=len(files), note="")
        for file in files:
            assert captioner is not None
            written[str(file)] = captioner.caption(read_picture(file, str(file)))
            atomic_write(file.with_suffix(".txt"), f"{written[str(file)]}\n".encode())
            bar.advance(task)
    report(written, as_json, lambda: typer.echo("\n".join(f"{file}: {text}" for file, text in written.items())))


def mask(
    pictures: Pictures,
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=writable, help="The folder for the masked pictures.")
    ],
    subject: Annotated[
        str, typer.Option("--class", help="The subject to segment, such as dog; rembg ignores it.")
    ] = "",
    model: Annotated[
        str, typer.Option("--with", help="The model: rembg, rembg/MODEL, or a folder or Hub model ID of Florence-2.")
    ] = "rembg",
    as_json: JsonOption = False,
) -> None:
    """Write copies with a transparent background, which studio concept add uses as masks."""
    from concepts import atomic_write, read_picture
    from studio.annotation.masking import load_masker
    from ui.services.image_files import png_bytes

    files = _files(pictures)
    targets = {file: output / f"{file.stem}.png" for file in files}
    if taken := next((target for target in targets.values() if target.exists()), None):
        raise StudioError(f"{taken} already exists. Choose another folder, or move the file away.")
    masker = load_masker(model)
    output.mkdir(parents=True, exist_ok=True)
    with progress_bar() as bar:
        task = bar.add_task("masks", total=len(files), note="")
        for file in files:
            picture = read_picture(file, str(file))
            picture.putalpha(masker.mask(picture, subject))
            atomic_write(targets[file], png_bytes(picture))
            bar.advance(task)
    made = [str(target) for target in targets.values()]
    report(made, as_json, lambda: typer.echo("\n".join(made)))


def _files(pictures: list[Path]) -> list[Path]:
    files = pictures_in(pictures)
    if not files:
        raise StudioError("The folder has no pictures. Give at least one.")
    return files
