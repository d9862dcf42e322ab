"""How far a start image is noised, and the number of denoising steps that this leaves."""

DENOISING_STRENGTH = 0.75
"""The default without a mask: A1111's."""
INPAINTING_STRENGTH = 1.0
"""The default with a mask: that of diffusers' inpainting. Where the mask is white, sampling begins from noise alone."""
MASK_BLUR = 4.0
"""The default blur of a mask's edge in pixels: A1111's."""


def strength_or_default(strength: float | None, masked: bool) -> float:
    """A denoising strength, or the default with or without a mask where there is none."""
    if strength is not None:
        return strength
    return INPAINTING_STRENGTH if masked else DENOISING_STRENGTH


def denoising_steps(num_inference_steps: int, strength: float) -> int:
    """The steps that run of these with a start image, the scheduler's last ones. diffusers' img2img rounds the product
    down, too; but here at least one step runs.
    """
    return min(max(int(num_inference_steps * strength), 1), num_inference_steps)
