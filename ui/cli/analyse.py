"""`studio analyse`: what trained concepts changed in the base's weights."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ui.cli.options import (
    DEFAULT_LIBRARY,
    BaseOption,
    JsonOption,
    LibraryOption,
    outline,
    progress_bar,
    report,
    workflow_of,
    writable,
)


def analyse(
    names: Annotated[
        list[str],
        typer.Argument(
            help="A concept; or several of spectral_rotational, whose rotations are applied one after another."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", callback=writable, help="The PNG file of the plots; NAME-analysis.png if unset."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="The layer whose singular vectors are compared; that of the largest change if unset."),
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Analyse a concept's change of the base's weights.

    For each layer: Hydra's subspace similarity of change and weight, the share of the change in the top, middle and
    bottom singular directions (LoRA-XS), the attained rank, and how far singular values moved; the alignment of the
    top singular vectors (Spectral Adapter, Figure 3); the change of magnitude and direction (DoRA); and the leakage:
    how much the concept changes images of prompts that do not name it. For several concepts: how far a chain of their
    rotations drifts from orthonormal columns.
    """
    from ui.services.scoring.adapter_analysis import rotation_chain

    workflow = workflow_of(library, base)
    if len(names) > 1:
        chain = rotation_chain(workflow.base, {name: workflow.loaded(name) for name in names})
        report({"chain": chain}, as_json, lambda: typer.echo("\n".join(outline({"chain": chain}))))
        return
    document = _analysed(workflow, names[0], output or Path(f"{names[0]}-analysis.png"), layer)
    shown = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in document.items() if key not in ("layers", "directions")
    }  # fmt: skip
    report(document, as_json, lambda: typer.echo("\n".join(outline(shown))))


def _analysed(workflow: Any, name: str, file: Path, layer: str | None) -> dict[str, Any]:
    from ui.services.scoring.adapter_analysis import analysis_of, plots_of

    trained = workflow.loaded(name)

    with progress_bar() as bar:
        task = bar.add_task("layers", total=None, note="")
        found = analysis_of(workflow.base, trained, lambda done, total: bar.update(task, completed=done, total=total))
    document = {"concept": name, **found, "leak": workflow.leak(name)}
    if not found["layers"]:
        return document  # no matrix is changed, so there is nothing to plot
    plots_of(workflow.base, trained, found, name, layer).save(file)
    return {**document, "plots": str(file)}
