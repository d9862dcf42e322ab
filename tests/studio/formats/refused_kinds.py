"""Files of other families and of other kinds, and what each is refused as."""

from pathlib import Path

from tests.studio.formats.foreign_files import (
    FLAT,
    QUERY,
    data,
    kohya,
    layer,
    peft,
    peft_folder,
    random,
    tensors,
    write,
)


def beside_a_pickle(folder: Path) -> Path:
    path = peft()(folder) / "unet" / "adapter_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    return folder


def truncated(folder: Path) -> Path:
    path = write(folder, kohya())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


FAMILIES = {
    "SD 3, kohya": (
        layer("lora_te3_encoder_block_0_layer_0_SelfAttention_k.lora_down.weight"),
        "for Stable Diffusion 3,",
    ),
    "SD 3, OneTrainer": (
        layer("lora_transformer_transformer_blocks_0_attn_add_k_proj.lora_down.weight"),
        "for Stable Diffusion 3,",
    ),
    "Flux, diffusers": (layer("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"), "for Flux,"),
    "Flux, kohya": (layer("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight"), "for Flux,"),
    "Z-Image": (layer("diffusion_model.layers.0.attention.to_k.lora_A.weight"), "for Z-Image,"),
    "Qwen-Image": (layer("transformer.transformer_blocks.0.img_mlp.net.2.lora_A.weight"), "for Qwen-Image,"),
    "Wan": (layer("diffusion_model.blocks.0.cross_attn.q.lora_A.weight"), "for Wan,"),
    "PixArt": (layer("transformer.transformer_blocks.0.attn1.to_q.lora_A.weight"), "for PixArt or LTX-Video,"),
    "Lumina": (layer("diffusion_model.layers.0.attention.qkv.lora_A.weight"), "for Lumina,"),
    "Chroma": (layer("diffusion_model.distilled_guidance_layer.layers.0.in_layer.lora_A.weight"), "for Chroma,"),
    "AnimateDiff": (
        layer("down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_A.weight"),
        "for AnimateDiff,",
    ),
    "Stable Cascade": (layer("lora_prior_unet_down_blocks_0_1_channelwise_0.lora_down.weight"), "for Stable Cascade,"),
    "a language model": (layer("base_model.model.layers.0.self_attn.q_proj.lora_A.weight"), "part of a PEFT folder"),
    "SDXL by its width": (
        layer("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", 4, 2048),
        "for Stable Diffusion XL,",
    ),
    "SDXL by its depth": (
        layer("lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_k.lora_down.weight"),
        "for Stable Diffusion XL,",
    ),
    "SDXL by its text encoders": (
        layer("clip_g.transformer.text_model.encoder.layers.0.self_attn.q_proj.lora_up.weight"),
        "for Stable Diffusion XL,",
    ),
    "SD 1.x by its width": (
        layer(f"{FLAT.replace('attn1_to_q', 'attn2_to_k')}.lora_down.weight", 4, 768),
        "for Stable Diffusion 1.x,",
    ),
    "SD 2.x by its width": (
        layer(f"unet.{QUERY.replace('attn1.to_q', 'attn2.to_v')}.lora_A.weight", 4, 1024),
        "for Stable Diffusion 2.x,",
    ),
    "a deeper UNet": (
        layer("lora_unet_down_blocks_3_resnets_0_conv1.lora_down.weight"),
        "has no layer 'lora_unet_down_blocks_3",
    ),
}

KINDS = {
    "empty": (data(b""), "truncated, or not a safetensors file"),
    "truncated": (truncated, "truncated, or not a safetensors file"),
    "a web page": (data(b"<!DOCTYPE html><html><body>Please sign in</body></html>\n"), "is a web page, not weights"),
    "a pickle": (data(b"PK\x03\x04" + bytes(80)), "is a pickle file"),
    "a pickle of protocol 0": (data(b"(dp0\nVa\np1\nI1\ns."), "is a pickle file"),
    "no tensors": (tensors({}), "has no adapted layers"),
    "a UNet": (
        tensors({"conv_in.weight": random(4, 4), "down_blocks.0.x.weight": random(4, 4)}),
        "is a UNet, a part of a base. Give the base's folder with --base",
    ),
    "an autoencoder": (tensors({"encoder.conv_in.bias": random(4)}), "is an autoencoder .VAE., a part of a base"),
    "a text encoder": (tensors({"text_model.embeddings.x.weight": random(4, 4)}), "is a text encoder, a part of a ba"),
    "a ControlNet": (
        tensors({"controlnet_down_blocks.0.bias": random(4), "down_blocks.0.x.weight": random(4)}),
        "is a ControlNet, a part of a base",
    ),
    "a checkpoint": (layer("model.diffusion_model.input_blocks.0.0.weight"), "is a checkpoint.*--base"),
    "PEFT with a pickle": (beside_a_pickle, "its adapter_model.bin is a pickle"),
    "PEFT's whole weights": (
        lambda folder: peft_folder(folder, {"conv_in.weight": random(16, 4, 3, 3)}),
        "conv_in has a whole weight",
    ),
    "PEFT's embeddings": (
        lambda folder: peft_folder(folder, {"embeddings.token_embedding.lora_embedding_A": random(4, 9)}),
        "The adapter type of .* is not supported",
    ),
    "unknown": (layer("foo.bar.baz"), "unknown layout, its keys look like 'foo.bar.baz'"),
    "a key without letters": (layer(""), "unknown layout, its keys look like ''"),
    "a long key": (layer("x" * 500), "unknown layout, its keys look like 'xxxx"),
    "control characters": (layer("a\x1b[31m.lora_up.weight"), r"look like 'a\\x1b\[31m"),
    "an adapter type": (
        tensors({**kohya(QUERY), f"{FLAT}.lambda_layer": random(4)}),
        "The adapter type of .*lambda_layer' is not supported",
    ),
}
