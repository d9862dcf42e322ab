"""diffusers' schedulers under the names that diffusers and A1111 use, without importing diffusers."""

from collections.abc import Mapping
from typing import Any

_SDE = {"algorithm_type": "sde-dpmsolver++"}
_KARRAS = {"use_karras_sigmas": True}

SCHEDULERS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpm++ 2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++ 2m karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "dpm++ 2m sde": ("DPMSolverMultistepScheduler", _SDE),
    "dpm++ 2m sde karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "dpm++ 2s": ("DPMSolverSinglestepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""The class in diffusers and the options of its configuration that differ from the base's, by name."""
