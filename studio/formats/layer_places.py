"""Finds a base's layers by the names that other tools' files give them."""

from collections.abc import Iterator, Mapping

from studio.formats.layer_names import field_path, original_paths
from studio.layers.target_modules import Site
from studio.models.families import SDXL, Family

_UNET = (
    "lora_unet_", "oft_unet_", "lycoris_unet_", "lycoris_", "unet_", "diffusion_model_", "model_diffusion_model_", "",
)  # fmt: skip
_TEXT = {
    "text_encoder": (
        "lora_te1_", "text_encoder_", "lycoris_text_encoder_", "text_encoders_clip_l_transformer_",
        "text_encoders_clip_h_transformer_", "clip_l_transformer_", "clip_h_transformer_", "clip_l_", "clip_h_",
        "cond_stage_model_transformer_",
    ),
    "text_encoder_2": (
        "lora_te2_", "text_encoder_2_", "lycoris_text_encoder_2_", "text_encoders_clip_g_transformer_",
        "clip_g_transformer_", "clip_g_",
    ),
}  # fmt: skip
_ONLY_TEXT = ("lora_te_", "lycoris_", "")
"""Prefixes that name the text encoder only where a base has one."""
_OLD_PROJECTIONS = {"_q_proj": "_to_q", "_k_proj": "_to_k", "_v_proj": "_to_v", "_out_proj": "_to_out"}


class LayerPlaces:
    """The sites of a base by other tools' names.

    Tools differ in where a name has dots and where underscores, so that names are compared with underscores alone. A
    UNet's layers are known by diffusers' names and by the original code's, of both SD and SDXL; a text encoder's by
    transformers' names, with and without the leading "text_model.".
    """

    def __init__(self, sites: Mapping[str, Site], family: Family):
        unet = {name: field_path(site) for name, site in sites.items() if site.part == "unet"}
        original = original_paths(unet.values())
        self._places: dict[str, dict[str, str]] = {}
        for name, site in sites.items():
            names = _unet_names(unet[name], original[unet[name]]) if name in unet else _text_names(site)
            self._places.setdefault(site.part, {}).update(dict.fromkeys(map(_flat, names), name))
        self._prefixes = [(prefix, part) for part, own in _TEXT.items() if part in self._places for prefix in own]
        if family is not SDXL:
            self._prefixes += [(prefix, "text_encoder") for prefix in _ONLY_TEXT]
        self._prefixes += [(prefix, "unet") for prefix in _UNET]

    def find(self, module: str) -> str | None:
        """The site of a module in a file of all parts; None where the base has no such layer."""
        flat = _flat(module)
        found = (
            self._places.get(part, {}).get(flat.removeprefix(prefix))
            for prefix, part in self._prefixes
            if flat.startswith(prefix)
        )
        return next((name for name in found if name), None)

    def find_below(self, part: str, module: str) -> str | None:
        """The site of a module by its name below its part."""
        return self._places.get(part, {}).get(_flat(module))

    @property
    def parts(self) -> list[str]:
        """The parts that have sites."""
        return list(self._places)


def _flat(module: str) -> str:
    return module.replace(".processor", "").replace(".", "_")


def _unet_names(path: str, original: str) -> Iterator[str]:
    for name in (path, original):
        yield name
        if name.endswith(".to_out.0"):  # the name before PEFT
            yield name.removesuffix(".0")


def _text_names(site: Site) -> Iterator[str]:
    path = field_path(site)
    for name in (path, path.removeprefix("text_model."), site.name.removeprefix(f"{site.part}.")):
        yield name
        for ending, old in _OLD_PROJECTIONS.items():
            if _flat(name).endswith(ending):
                yield _flat(name).removesuffix(ending) + old
