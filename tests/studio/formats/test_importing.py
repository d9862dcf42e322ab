"""Files that we, PEFT, diffusers and LyCORIS wrote, read as concepts with the same changes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from lycoris import kohya as lycoris_kohya
from peft import (
    GloraConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    get_peft_model,
    get_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from studio.adapters.concept_file import TrainedConcept, from_bytes, to_bytes
from studio.composition import MERGES
from studio.composition.loaded_concept import load_concept
from studio.composition.merge import merged_changes, merged_concept, merged_deltas
from studio.composition.merge_config import MergeConfig
from studio.formats.exporting import export
from studio.formats.importing import import_concept, words_as_token
from studio.models.base_model import Base

SAME = 1e-6
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def deltas_of(base: Base, concept: TrainedConcept) -> dict[str, Tensor]:
    loaded = load_concept(base, concept)
    with torch.no_grad():
        return {name: adapter.delta(loaded.sites[name].weight) for name, adapter in loaded.modules.items()}


def distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The largest relative difference of a layer."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in theirs)


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "peft"])
@pytest.mark.parametrize("adapter", ["lora", "spectral_additive", "hydra", "dora"])
def test_what_we_export_comes_back(base: Base, adapter: str, layout: str, tmp_path: Path, random_concept: Callable):
    concept = random_concept(base, adapter)
    path = tmp_path / ("rex" if layout == "peft" else "rex.safetensors")
    export(base, {"rex": concept}, layout, path, rank=1000)
    read = from_bytes(to_bytes(import_concept(base, path, {})), "rex")
    assert distance(deltas_of(base, read), deltas_of(base, concept)) < SAME
    if layout != "kohya" and adapter == "hydra":
        (_, ours), (_, theirs) = (merged_changes(base, {"rex": one}, MergeConfig()) for one in (read, concept))
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-7) for name in theirs)


def randomised(module: nn.Module) -> None:
    """Random numbers in all that is trained, as if it had been."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def peft_deltas(model: Any) -> dict[str, Tensor]:
    """What merging changes in each layer of a PEFT model of the UNet, as matrices by site name."""
    weights = {
        name.removeprefix("base_model.model."): (layer, layer.get_base_layer().weight.detach().clone().double())
        for name, layer in model.named_modules()
        if hasattr(layer, "get_base_layer")
    }
    model.double()
    for layer, _ in weights.values():
        layer.merge()
    return {
        f"unet.{name}": (layer.get_base_layer().weight.detach() - weight).float().flatten(1)
        for name, (layer, weight) in weights.items()
    }


PEFT_CONFIGS = {
    "lora": LoraConfig(r=4, lora_alpha=7, target_modules=[*ATTENTION, "conv1"], rank_pattern={"mid_block.*to_q": 2}),
    "rslora": LoraConfig(r=4, lora_alpha=2, use_rslora=True, target_modules=ATTENTION),
    "dora": LoraConfig(r=4, lora_alpha=2, use_dora=True, target_modules=[*ATTENTION, "conv1"]),
    "loha": LoHaConfig(r=4, alpha=3, target_modules=[*ATTENTION, "conv1"], use_effective_conv2d=True),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=[*ATTENTION, "conv1"], decompose_both=True),
    "lokr_full": LoKrConfig(r=64, alpha=32, target_modules=ATTENTION),
    "oft": OFTConfig(r=4, oft_block_size=0, use_cayley_neumann=False, target_modules=ATTENTION),
    "glora": GloraConfig(r=2, target_modules=ATTENTION),
    "glora_vector": GloraConfig(config_A_B="vector", config_C="vector", config_D_E="vector", target_modules=ATTENTION),
    "glora_constant": GloraConfig(config_A_B="constant", config_C="none", config_D_E="none", target_modules=ATTENTION),
    "ia3": IA3Config(target_modules=["to_k", "to_v", "conv1", "ff.net.2"], feedforward_modules=["ff.net.2", "conv1"]),
    "ia3_out": IA3Config(target_modules=["to_out.0", "conv1"], feedforward_modules=[]),
    "oft_series": OFTConfig(r=0, oft_block_size=8, block_share=True, target_modules=ATTENTION),
}


@pytest.mark.parametrize("kind", PEFT_CONFIGS)
def test_what_peft_writes(base: Base, kind: str, tmp_path: Path):
    unet: Any = UNet2DConditionModel.from_config(base.pipeline.unet.config)
    unet.load_state_dict(base.pipeline.unet.state_dict())
    model: Any = get_peft_model(unet, PEFT_CONFIGS[kind])
    randomised(model)
    model.save_pretrained(tmp_path / "unet")
    read = import_concept(base, tmp_path, {})
    ours = deltas_of(base, read)
    assert distance(ours, peft_deltas(model)) < 3 * SAME  # theirs rounds its weights to float32
    export(base, {"rex": read}, "kohya", tmp_path / "again.safetensors", rank=1000)
    assert distance(deltas_of(base, import_concept(base, tmp_path / "again.safetensors", {})), ours) < SAME


@pytest.mark.parametrize("use_dora", [False, True])
def test_what_diffusers_writes(base: Base, pipeline: StableDiffusionPipeline, use_dora: bool, tmp_path: Path):
    config = LoraConfig(r=4, lora_alpha=2, use_dora=use_dora, target_modules=ATTENTION)
    model: Any = get_peft_model(pipeline.unet, config)
    randomised(model)
    state = get_peft_model_state_dict(model)
    layers: Any = {key.removeprefix("base_model.model."): tensor for key, tensor in state.items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path, layers, unet_lora_adapter_metadata=config.to_dict())
    read = import_concept(base, tmp_path / "pytorch_lora_weights.safetensors", {})
    assert distance(deltas_of(base, read), peft_deltas(model)) < 3 * SAME


def test_diffusers_older_layouts(base: Base, tmp_path: Path, random_concept: Callable):
    concept = random_concept(base, "lora")
    made = export(base, {"rex": concept}, "diffusers", tmp_path / "rex.safetensors")
    tensors = load_file(made.path)
    older = {}
    for key, tensor in tensors.items():
        path, _, role = key.rpartition(".lora_")
        direction = {"A.weight": "down", "B.weight": "up"}[role]
        if key.startswith("unet."):
            block, _, projection = path.partition(".to_")
            older[f"{block}.processor.to_{projection.removesuffix('.0')}_lora.{direction}.weight"] = tensor
        else:
            older[f"{path}.lora_linear_layer.{direction}.weight"] = tensor
    save_file(older, tmp_path / "older.safetensors")
    read = import_concept(base, tmp_path / "older.safetensors", {})
    assert distance(deltas_of(base, read), deltas_of(base, concept)) < SAME


LYCORIS = {
    "locon": {"algo": "locon", "conv_dim": 4, "conv_alpha": 2},
    "locon_tucker": {"algo": "locon", "conv_dim": 4, "use_tucker": True},
    "locon_dora": {"algo": "locon", "dora_wd": True},
    "loha": {"algo": "loha", "conv_dim": 4},
    "loha_tucker": {"algo": "loha", "conv_dim": 4, "use_tucker": True},
    "lokr": {"algo": "lokr", "factor": 4, "conv_dim": 2},
    "lokr_both": {"algo": "lokr", "decompose_both": True, "factor": 8},
    "oft": {"algo": "diag-oft"},
    "oft_rescaled": {"algo": "diag-oft", "rescaled": True, "constraint": 0.01},
    "norms": {"algo": "locon", "train_norm": True},
    "boft": {"algo": "boft"},
    "boft_rescaled": {"algo": "boft", "rescaled": True, "constraint": 0.01},
    "glora": {"algo": "glora", "conv_dim": 4},
    "ia3": {"algo": "ia3"},
    "ia3_input": {"algo": "ia3", "train_on_input": True},
}


PRESET = """
enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"]
unet_target_name = ["conv_in"]
text_encoder_target_module = ["CLIPAttention", "CLIPMLP"]
text_encoder_target_name = []
"""
"""What LyCORIS adapts; its own preset "full" names some layers twice with these versions of diffusers."""


def lycoris_change(module: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer of LyCORIS adds to its output for random inputs, and what our delta (out, in) adds."""
    layer = module.org_module[0]
    generator = torch.Generator().manual_seed(6)
    if isinstance(layer, nn.Conv2d):
        x = torch.randn(2, layer.in_channels, 8, 8, generator=generator).to(delta)
        kernel = delta.unflatten(1, (layer.in_channels, *layer.kernel_size))
        ours = functional.conv2d(x, kernel, stride=layer.stride, padding=layer.padding)
    elif isinstance(layer, nn.Linear):
        x = torch.randn(3, layer.in_features, generator=generator).to(delta)
        ours = functional.linear(x, delta)
    else:
        return module.w_norm[:, None], delta
    return module(x) - module.org_forward(x), ours


@pytest.mark.parametrize("kind", LYCORIS)
def test_what_lycoris_writes(base: Base, pipeline: StableDiffusionPipeline, kind: str, tmp_path: Path):
    # Its OFT keeps the frozen weights in float32, so that its own output is no more exact than that.
    precision, tolerance = (torch.float32, 20 * SAME) if "oft" in kind else (torch.float64, 3 * SAME)
    (tmp_path / "preset.toml").write_text(PRESET)
    network: Any = lycoris_kohya.create_network(
        1.0, 4, 3, pipeline.vae, pipeline.text_encoder, pipeline.unet, preset=str(tmp_path / "preset.toml"),
        **LYCORIS[kind],
    )  # fmt: skip
    network.apply_to(pipeline.text_encoder, pipeline.unet, True, True)
    randomised(network)
    network.save_weights(str(tmp_path / "rex.safetensors"), torch.float32, {})
    read = import_concept(base, tmp_path / "rex.safetensors", {})
    ours = deltas_of(base, read)
    modules = {module.lora_name: module.to(precision) for module in network.loras}
    names = {f"lora_{name}".replace(".", "_").replace("text_encoder", "te"): name for name in ours}
    assert names.keys() == modules.keys()
    for part in (pipeline.unet, pipeline.text_encoder):
        part.to(precision)
    with torch.no_grad():
        for name, module in modules.items():
            theirs, change = lycoris_change(module, ours[names[name]].to(precision))
            assert float((change - theirs).norm() / theirs.norm()) < tolerance, name
    if kind != "norms":  # which no LoRA holds
        export(base, {"rex": read}, "kohya", tmp_path / "again.safetensors", rank=1000)
        assert distance(deltas_of(base, import_concept(base, tmp_path / "again.safetensors", {})), ours) < SAME


def test_a_difference_of_weights_and_biases(base: Base, tmp_path: Path):
    layer = base.pipeline.unet.conv_in
    change = {"diff": torch.randn(layer.weight.shape), "diff_b": torch.randn(layer.bias.shape)}
    save_file({f"lora_unet_conv_in.{role}": tensor for role, tensor in change.items()}, tmp_path / "full.safetensors")
    deltas, biases = merged_changes(
        base, {"rex": import_concept(base, tmp_path / "full.safetensors", {})}, MergeConfig()
    )
    assert torch.equal(deltas["unet.conv_in"].view_as(layer.weight), change["diff"])
    assert torch.equal(biases["unet.conv_in"], change["diff_b"])


def test_an_import_is_merged_by_every_method(base: Base, tmp_path: Path, random_concept: Callable):
    unet: Any = UNet2DConditionModel.from_config(base.pipeline.unet.config)
    model: Any = get_peft_model(unet, PEFT_CONFIGS["lokr"])
    randomised(model)
    model.save_pretrained(tmp_path / "unet")
    imported = replace(import_concept(base, tmp_path, {}), tokens={"<rex>": words_as_token(base, "dog")})
    concepts = {"rex": imported, "milo": random_concept(base, "lora", "milo")}
    written = from_bytes(to_bytes(merged_concept(base, concepts, MergeConfig("fedavg"))), "both")
    sums, read = merged_deltas(base, concepts, "fedavg"), merged_deltas(base, {"both": written})
    assert distance(read, sums) < 1e-5
    for method in MERGES:
        if method not in ("spectral", "orthogonal"):
            deltas, _ = merged_changes(base, concepts, MergeConfig(method))
            assert "unet.mid_block.resnets.0.conv1" in deltas
            assert all(delta.isfinite().all() for delta in deltas.values())
