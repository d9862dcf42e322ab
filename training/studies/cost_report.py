"""The report of a cost study: tables and plots of every adapter's cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from training.reporting.html_report import Section, picture_of
from training.studies.cost import ARCHITECTURE, REFERENCE, sizes_at_stable_diffusion, widths
from training.studies.study_page import Page
from training.studies.timed_operations import NO_LAYER

Rows = Sequence[Mapping[str, Any]]


def at_stable_diffusion(rows: Rows) -> list[dict[str, Any]]:
    """Each adapter over all attention layers of Stable Diffusion 1.5, once every width of them was measured: sums of
    one layer's figures times the number of such layers.
    """
    own = [row for row in rows if row["kind"] == ARCHITECTURE]
    adapters = list(dict.fromkeys(row["adapter"] for row in own))
    sizes = sizes_at_stable_diffusion(adapters)
    found = []
    for adapter in adapters:
        members = [row for row in own if row["adapter"] == adapter]
        if {row["width"] for row in members} == widths().keys():
            sums = {
                key: sum(row["layers"] * row[key] for row in members)
                for key in ("set_up_seconds", "step_seconds", "merged_seconds", "unmerged_seconds")
            }
            peak = max(members, key=lambda row: row["width"]).get("peak_megabytes")
            found.append({"adapter": adapter, **sizes[adapter], **sums, "peak_megabytes": peak})
    return found


def _plot(rows: Rows, panels: Mapping[str, str]) -> Image.Image:
    """Bars of each adapter, one panel per metric, with error bars where a metric has a range."""
    figure = Figure(figsize=(4.2 * len(panels), 1.2 + 0.28 * len(rows)), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(),
                                  strict=True):  # fmt: skip
        values = [row[key] or 0 for row in rows]
        axes.barh([row["adapter"] for row in rows], values)
        if f"{key}_low" in rows[0]:
            ends = [[abs(row[f"{key}_{end}"] - value) for row, value in zip(rows, values, strict=True)]
                    for end in ("low", "high")]  # fmt: skip
            axes.errorbar(values, range(len(rows)), xerr=ends, fmt="none", ecolor="black", capsize=2, linewidth=1)
        axes.set(title=title)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.invert_yaxis() if axes is figure.axes[0] else None
    return picture_of(figure)


def cost_page(rows: Rows, settings: Mapping[str, Any]) -> Page:
    """The study's page, from its rows."""
    base, layers = [row for row in rows if row["kind"] == "base"], at_stable_diffusion(rows)
    how = (
        f"{settings['machine']} Each adapter in its default size. A step is a whole training step with the default "
        f"recipe, batch 8, including preservation loss and token; times are medians of {settings['rounds']} "
        f"rounds, and the ratio is to {REFERENCE} in the same round, with the interquartile range of the ratios. "
        "Set-up makes the adapters and, where they need them, the singular columns, later read from a cache. Peak "
        "memory is what a step adds in a separate process. Throughput is pictures per second of "
        f"{settings['num_inference_steps']} denoising steps in a batch of {settings['pictures']}, timed once; unmerged "
        "applies the adapters beside the frozen layers, where their changes are matrices."
    )
    left_out = ", ".join(f"{name} ({reason})" for name, reason in NO_LAYER.items())
    beyond = (
        "No Stable Diffusion was run here: one square layer of random weights of each width, with 1,024 tokens, "
        "float32, was timed, and multiplied by how many attention layers Stable Diffusion 1.5 has of that width. A "
        "step is forward and backward; merged and unmerged are forward alone, merged being the frozen layer itself. "
        "Real layers process 77 to 4,096 tokens, so the sums compare adapters, and do not predict a step's time. "
        "Trained parameters and bytes are exact, for all layers that the method adapts there. Peak memory is "
        f"that of a step of one layer of the widest. Not timed here: {left_out}."
    )
    sections = []
    if base:
        panels = {"step_ratio": f"a step's time, {REFERENCE} = 1", "peak_megabytes": "MB a step adds at its peak",
                  "bytes": "bytes stored"}  # fmt: skip
        sections.append(Section("On the base", how, [_plot(base, panels)], [_on_base(row) for row in base]))
    if layers:
        panels = {"step_seconds": "s, steps of all layers", "unmerged_seconds": "s, forward unmerged",
                  "bytes": "bytes stored"}  # fmt: skip
        cells = [_in_layers(row) for row in layers]
        sections.append(Section("At Stable Diffusion 1.5's sizes", beyond, [_plot(layers, panels)], cells))
    return Page("cost", "Cost: time, memory and file size of every adapter", sections, _flat(rows))


def _on_base(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "adapter": row["adapter"], "rank": _formatted(row["rank"], ""), "trained parameters": f"{row['trained']:,}",
        "as published": f"{row['published']:,}", "changed": f"{row['changed']:,}", "bytes": f"{row['bytes']:,}",
        "set-up s": row["set_up_seconds"], "step s": row["step_seconds"],
        f"ratio to {REFERENCE}": f"{row['step_ratio']:.2f} ({row['step_ratio_low']:.2f} to "
                                 f"{row['step_ratio_high']:.2f})",
        "peak MB": _formatted(row["peak_megabytes"]), "merge s": row["merge_seconds"],
        "pictures/s merged": f"{row['merged_per_second']:.2f}",
        "pictures/s unmerged": _formatted(row["unmerged_per_second"], ".2f"),
    }  # fmt: skip


def _in_layers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "adapter": row["adapter"], "trained parameters": f"{row['trained']:,}", "as published": f"{row['published']:,}",
        "bytes": f"{row['bytes']:,}", "set-up s": row["set_up_seconds"], "step s": row["step_seconds"],
        "forward merged s": row["merged_seconds"], "forward unmerged s": row["unmerged_seconds"],
        "peak MB": _formatted(row["peak_megabytes"]),
    }  # fmt: skip


def _formatted(value: Any, form: str = ".0f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def _flat(rows: Rows) -> list[dict[str, Any]]:
    """The rows for one table, which has the columns of both kinds."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in keys} for row in rows]
