"""The keys of exported kohya files are those that the loaders of ComfyUI and sd-scripts look for.

Both tables are built here from the published sizes of SD 1.5, SD 2.1 and SDXL by the loaders' naming rules, without the
studio's code: ComfyUI's comfy/lora.py and comfy/utils.py, sd-scripts' networks/lora.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from studio.formats.layer_names import kohya_names
from studio.layers.target_modules import Site, find_sites
from studio.models.architectures import architecture_parts
from studio.models.families import family_of

RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
TRANSFORMER = [f"attn{number}.to_{name}" for number in (1, 2) for name in ("q", "k", "v", "out.0")] + [
    "norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2",
]  # fmt: skip
AROUND = {
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
}  # fmt: skip
CLIP = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")] + ["mlp.fc1", "mlp.fc2"]


@dataclass(frozen=True)
class Sizes:
    """How many transformer blocks each attention of a level has, 0 without attention; and the layers of each CLIP."""

    depths: tuple[int, ...]
    middle: int
    text: dict[str, int]


PUBLISHED = {
    "sd15": Sizes((1, 1, 1, 0), 1, {"lora_te": 12}),
    "sd21": Sizes((1, 1, 1, 0), 1, {"lora_te": 23}),
    "sdxl": Sizes((0, 2, 10), 10, {"lora_te1": 12, "lora_te2": 32}),
}
RESNETS = 2
"""A level has two residual blocks on the way down, and three on the way up."""


def resnet(original: str, diffusers: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{original}.{ours}", f"{diffusers}.{theirs}") for ours, theirs in RESNET.items())


def attention(original: str, diffusers: str, depth: int) -> Iterator[tuple[str, str]]:
    inner = [f"transformer_blocks.{index}.{name}" for index in range(depth) for name in TRANSFORMER]
    names = ["norm", "proj_in", "proj_out", *inner]
    yield from ((f"{original}.{name}", f"{diffusers}.{name}") for name in names)


def unet(sizes: Sizes) -> Iterator[tuple[str, str]]:
    """The layers of a UNet by the original code's and by diffusers' names."""
    yield from ((ours, theirs) for ours, theirs in AROUND.items())
    levels = len(sizes.depths)
    for level, depth in enumerate(sizes.depths):
        for index in range(RESNETS):
            block = f"input_blocks.{1 + 3 * level + index}"
            yield from resnet(f"{block}.0", f"down_blocks.{level}.resnets.{index}")
            if depth:
                yield from attention(f"{block}.1", f"down_blocks.{level}.attentions.{index}", depth)
        if level < levels - 1:
            yield f"input_blocks.{3 * (level + 1)}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
    yield from resnet("middle_block.0", "mid_block.resnets.0")
    yield from attention("middle_block.1", "mid_block.attentions.0", sizes.middle)
    yield from resnet("middle_block.2", "mid_block.resnets.1")
    for level, depth in enumerate(reversed(sizes.depths)):
        for index in range(RESNETS + 1):
            block = f"output_blocks.{3 * level + index}"
            yield from resnet(f"{block}.0", f"up_blocks.{level}.resnets.{index}")
            if depth:
                yield from attention(f"{block}.1", f"up_blocks.{level}.attentions.{index}", depth)
        if level < levels - 1:
            last = f"output_blocks.{3 * level + RESNETS}"
            yield f"{last}.{2 if depth else 1}.conv", f"up_blocks.{level}.upsamplers.0.conv"


def text_keys(sizes: Sizes) -> set[str]:
    """Both loaders know the six matrices of each layer of a text encoder."""
    return {
        f"{prefix}_text_model_encoder_layers_{layer}_{name.replace('.', '_')}"
        for prefix, layers in sizes.text.items()
        for layer in range(layers)
        for name in CLIP
    }


def comfyui(sizes: Sizes) -> dict[str, set[str]]:
    """The keys of each UNet layer, by diffusers' name: ComfyUI reads the original code's and diffusers' names."""
    return {theirs: {f"lora_unet_{name.replace('.', '_')}" for name in (ours, theirs)} for ours, theirs in unet(sizes)}


def sd_scripts(sizes: Sizes, original: bool) -> set[str]:
    """The keys of the matrices of transformers, residual blocks and samplers, which sd-scripts adapts; its UNet of SDXL
    has the original code's names, and that of SD 1.x and 2.x diffusers' names.
    """
    inside = [pair for pair in unet(sizes) if pair[1].startswith(("down_blocks", "mid_block", "up_blocks"))]
    matrices = [pair for pair in inside if "norm" not in pair[1].rpartition(".")[2]]
    return {f"lora_unet_{pair[0 if original else 1].replace('.', '_')}" for pair in matrices}


@pytest.fixture(scope="module", params=PUBLISHED)
def model(request) -> tuple[Sizes, dict[str, Site], dict[str, str]]:
    """The published sizes, our sites, and the names that we export."""
    parts = architecture_parts(request.param)
    sites = find_sites(parts, ("linear", "convolution", "norm"))
    return PUBLISHED[request.param], sites, kohya_names(sites, family_of(parts))


def matrices(sites: dict[str, Site], names: dict[str, str], part: str) -> dict[str, str]:
    """The exported names of a part's matrices by our names below it."""
    return {
        name.removeprefix(f"{part}."): names[name]
        for name, site in sites.items()
        if site.part.startswith(part) and site.role != "norm"
    }


def test_comfyui_finds_every_layer_of_the_unet(model: tuple[Sizes, dict[str, Site], dict[str, str]]):
    sizes, sites, names = model
    table = comfyui(sizes)
    own = {name.removeprefix("unet."): names[name] for name, site in sites.items() if site.part == "unet"}
    known = {"add_embedding.linear_1", "add_embedding.linear_2"} if len(sizes.depths) == 4 else set[str]()
    assert own.keys() <= table.keys()
    assert all(key in table[name] for name, key in own.items())
    unused = table.keys() - own.keys() - known
    assert all(name.endswith(".conv_shortcut") for name in unused)  # the table has one for every residual block


def test_sd_scripts_finds_the_layers_that_it_adapts(model: tuple[Sizes, dict[str, Site], dict[str, str]]):
    sizes, sites, names = model
    table = sd_scripts(sizes, original=len(sizes.text) > 1)
    own = matrices(sites, names, "unet")
    outside = {name for name, key in own.items() if key not in table}
    around = {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    added = {"add_embedding.linear_1", "add_embedding.linear_2"} if len(sizes.text) > 1 else set[str]()
    assert outside == around | added  # which only recipes with target_modules convolution or linear change
    assert all("conv_shortcut" in key or "skip_connection" in key for key in table - set(own.values()))


def test_both_find_the_layers_of_the_text_encoders(model: tuple[Sizes, dict[str, Site], dict[str, str]]):
    sizes, sites, names = model
    own = set(matrices(sites, names, "text_encoder").values())
    projection = {"lora_te2_text_projection"} if len(sizes.text) > 1 else set[str]()  # ComfyUI knows it too
    assert own - projection == text_keys(sizes)
