"""What a checkpoint's UNet predicts, and whether its noise ends at zero SNR, as its file says."""

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers import DDIMScheduler

from studio.models.checkpoints.header import Header

_TYPES = {
    "epsilon": "epsilon", "eps": "epsilon",
    "v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "vpred": "v_prediction",
    "velocity": "v_prediction", "sample": "sample", "x0": "sample",
}  # fmt: skip
_ARCHITECTURES = {"stable-diffusion-v2-512": "epsilon", "stable-diffusion-v2-768-v": "v_prediction"}


def prediction_type_of(header: Header) -> str | None:
    """diffusers' prediction_type by the key "v_pred", modelspec.prediction_type ("v" or "epsilon"; Stability AI's model
    metadata standard 1.0), sd-scripts' ss_v_parameterization or modelspec.architecture; None where nothing says it.
    """
    metadata = header.metadata
    if "v_pred" in header.shapes:
        return "v_prediction"
    if told := _TYPES.get(metadata.get("modelspec.prediction_type", "").strip().lower()):
        return told
    if _is_true(metadata, "ss_v_parameterization"):
        return "v_prediction"
    return _ARCHITECTURES.get(metadata.get("modelspec.architecture", "").strip().lower())


def has_zero_terminal_snr(header: Header) -> bool:
    """Whether the last timestep is pure noise (Lin et al., 2023, section 3.1), by the key "ztsnr" or sd-scripts'
    ss_zero_terminal_snr.
    """
    return "ztsnr" in header.shapes or _is_true(header.metadata, "ss_zero_terminal_snr")


def scheduler_as_told(scheduler: Any, header: Header) -> Any:
    """The scheduler with the prediction type and the noise schedule that the checkpoint's file names, if it does.

    With zero terminal SNR the timesteps are spaced from the last one (Lin et al., 2023, section 3.3). A scheduler that
    cannot rescale its betas is replaced by DDIM.
    """
    changes: dict[str, Any] = {}
    if told := prediction_type_of(header):
        changes["prediction_type"] = told
    kind = type(scheduler)
    if has_zero_terminal_snr(header):
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        can = "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters
        kind = kind if can else DDIMScheduler
    return kind.from_config(scheduler.config, **changes) if changes else scheduler


def _is_true(metadata: Mapping[str, str], key: str) -> bool:
    return metadata.get(key, "").strip().lower() in ("true", "1")
