"""Generation from a picture: a start image, noised part of the way, whole (img2img) or inside a mask (inpainting)."""
