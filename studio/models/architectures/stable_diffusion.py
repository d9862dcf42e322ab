"""Stable Diffusion 1.5, 2.1 and XL, by their published configurations."""

from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def sd15() -> dict[str, nn.Module]:
    """Stable Diffusion 1.5: 860M parameters in the UNet and 123M in CLIP ViT-L/14's text encoder."""
    return {
        "unet": UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=8,
            cross_attention_dim=768,
        ),
        "text_encoder": CLIPTextModel(_clip_l()),
    }


def sd21() -> dict[str, nn.Module]:
    """Stable Diffusion 2.1: like 1.5, with heads of 64, linear projections and OpenCLIP ViT-H/14's text encoder."""
    return {
        "unet": UNet2DConditionModel(
            sample_size=96,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),  # pyright: ignore[reportArgumentType]
            cross_attention_dim=1024,
            use_linear_projection=True,
        ),
        "text_encoder": CLIPTextModel(_open_clip(width=1024, layers=23, heads=16)),
    }


def sdxl() -> dict[str, nn.Module]:
    """Stable Diffusion XL: three levels, the lowest with ten transformer blocks each, and two text encoders."""
    return {
        "unet": UNet2DConditionModel(
            sample_size=128,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),  # pyright: ignore[reportArgumentType]
            attention_head_dim=(5, 10, 20),  # pyright: ignore[reportArgumentType]
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        "text_encoder": CLIPTextModel(_clip_l()),
        "text_encoder_2": CLIPTextModelWithProjection(_open_clip(width=1280, layers=32, heads=20)),
    }


def _clip_l() -> CLIPTextConfig:
    return _text_config(width=768, layers=12, heads=12, activation="quick_gelu")


def _open_clip(width: int, layers: int, heads: int) -> CLIPTextConfig:
    return _text_config(width, layers, heads, activation="gelu")


def _text_config(width: int, layers: int, heads: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        hidden_act=activation,
    )
