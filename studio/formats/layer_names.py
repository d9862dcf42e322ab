"""The names of a model's layers in other tools' files.

A *field path* is a layer's path in files of other tools: diffusers' names in the UNet, and transformers' in the text
encoders with the leading "text_model." that transformers 5 dropped from its modules.
"""

import re
from collections.abc import Iterable, Mapping

from studio.layers.target_modules import Site
from studio.models.families import SDXL, Family

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_IN_BLOCK = re.compile(
    r"(?:(?P<side>down|up)_blocks\.(?P<block>\d+)|(?P<mid>mid_block))"
    r"\.(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<index>\d+)\.(?P<rest>.+)"
)


def field_path(site: Site) -> str:
    """The site's path below its part, as in other tools' files."""
    path = site.name.removeprefix(f"{site.part}.")
    if site.part == "unet" or path.startswith(("text_model.", "text_projection")):
        return path
    return f"text_model.{path}"


def original_paths(paths: Iterable[str]) -> dict[str, str]:
    """The names in the original (LDM and SGM) code of all of a diffusers UNet's layer paths.

    A path's name depends on other paths: how many layers a block has, and whether it has attention.
    """
    paths = list(paths)
    found = [match for path in paths if (match := _IN_BLOCK.match(path))]
    depth = 1 + max(int(m["index"]) for m in found if m["side"] == "down" and m["kind"] == "resnets")
    attending = {int(m["block"]) for m in found if m["side"] == "up" and m["kind"] == "attentions"}
    return {path: _original_path(path, depth, attending) for path in paths}


def _original_path(path: str, depth: int, attending: set[int]) -> str:
    match = _IN_BLOCK.match(path)
    if match is None:
        return _OUTSIDE_BLOCKS[path]
    index, rest = int(match["index"]), match["rest"]
    if match["kind"] == "resnets":
        rest = _RESNET[rest]
    place = 0 if match["kind"] == "resnets" else 1
    if match["mid"]:
        return f"middle_block.{2 * index + place}.{rest}"
    block = int(match["block"])
    if match["side"] == "down":
        if match["kind"] == "downsamplers":
            return f"input_blocks.{(block + 1) * (depth + 1)}.0.op"
        return f"input_blocks.{1 + block * (depth + 1) + index}.{place}.{rest}"
    if match["kind"] == "upsamplers":
        return f"output_blocks.{block * (depth + 1) + depth}.{1 + (block in attending)}.{rest}"
    return f"output_blocks.{block * (depth + 1) + index}.{place}.{rest}"


def kohya_names(sites: Mapping[str, Site], family: Family) -> dict[str, str]:
    """Each site's name in kohya's layout, by the site's own name; for SDXL's UNet, from its original code's names.

    `sites` holds at least every convolution of the UNet where the family is SDXL.
    """
    fields = {name: field_path(site) for name, site in sites.items()}
    if family is SDXL:
        unet = original_paths(path for name, path in fields.items() if sites[name].part == "unet")
        fields = {name: unet.get(path, path) if sites[name].part == "unet" else path for name, path in fields.items()}
    return {name: f"{family.prefixes[sites[name].part]}_{path}".replace(".", "_") for name, path in fields.items()}
