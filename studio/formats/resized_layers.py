"""The LoRA layers of one file at other ranks, by the singular value decomposition of their products."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.formats.adapter_file import BUNDLED, PARTS
from studio.formats.adapter_keys import split_key
from studio.formats.imported_layer import Layer
from studio.formats.peft import PREFIX
from studio.formats.peft_config import configure
from studio.formats.safe_reading import shortened
from studio.layers.low_rank import LowRank, balanced, product_svd
from studio.layers.rank_choice import RankChoice

_KEPT = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The types in which new factors are written as the old ones were; others are too coarse for them."""
_OTHER_METHODS = {
    "loha": "LoHa", "lokr": "LoKr", "output_oft": "OFT", "input_oft": "OFT", "glora": "GLoRA", "peft_glora": "GLoRA",
    "peft_ia3": "(IA)³",
}  # fmt: skip


def path_in(module: str, configs: Mapping[str, Any]) -> tuple[str, str]:
    """The part whose configuration a module of a file has ("" for that of all), and its path below the part."""
    part = next((part for part in PARTS if module.startswith(f"{part}.")), "unet" if "." in module else "")
    path = module.removeprefix(f"{part}.").removeprefix(PREFIX)
    return (part if part in configs else ""), path


class ResizedLayers:
    """The tensors of one file by key; `resize` replaces those of its LoRA layers.

    `former` and `ranks` are the layers' ranks before and after, by name; `whole`, `kept` and `lost` the squared norms
    of all scaled products, of what is kept of them, and of their differences; `others` and `magnitudes` count the
    tensors that are no LoRA, and DoRA's magnitudes.
    """

    def __init__(self, name: str, tensors: Mapping[str, Tensor], configs: Mapping[str, Mapping[str, Any]]):
        self.tensors, self.configs = dict(tensors), configs
        self.former: dict[str, int] = {}
        self.ranks: dict[str, int] = {}
        self.conv_ranks: list[int] = []
        self.whole = self.kept = self.lost = 0.0
        self._layers: dict[str, Layer] = {}
        self._keys: dict[str, dict[str, str]] = {}
        for key, tensor in tensors.items():
            self._put(name, key, tensor)
        self._layers = {module: layer for module, layer in self._layers.items() if "lora" in layer.held}
        if not self._layers:
            raise StudioError(f"{name} has no LoRA layers. Give a LoRA file.")
        self.magnitudes = sum(layer.magnitude is not None for layer in self._layers.values())
        used = sum(len(keys) for module, keys in self._keys.items() if module in self._layers)
        self.others = len(tensors) - used

    def _put(self, name: str, key: str, tensor: Tensor) -> None:
        module, known = split_key(key)
        if (known and known[0] in _OTHER_METHODS) or known == ("ia3", "on_input") or ".lora_embedding_" in key:
            kind = "embedding" if known is None else _OTHER_METHODS.get(known[0], "(IA)³")
            raise StudioError(
                f"{name} has {kind} layers, such as {shortened(module)}, and only LoRA and LoCon layers can be "
                "resized. Make a LoRA of them with studio import and studio export --rank."
            )
        if known is None or known[0] not in ("", "lora") or BUNDLED.fullmatch(key):
            return
        if module not in self._layers:
            self._layers[module] = Layer(module)
            part, path = path_in(module, self.configs)
            configure(self._layers[module], path, self.configs.get(part, {}))
        self._layers[module].put(*known, tensor)
        self._keys.setdefault(module, {})[known[1]] = key

    def resize(self, ranks: RankChoice, dtype: torch.dtype | None, on_layer: Callable[[int, int], None]) -> None:
        """Gives every layer its rank; factors are in `dtype`, if None in their own, or float32 for types of 8 bits.

        Raises StudioError for shapes that do not go together, and for values that the dtype cannot store.
        """
        for index, (module, layer) in enumerate(self._layers.items()):
            self._resize(module, layer, ranks, dtype)
            on_layer(index + 1, len(self._layers))

    def _resize(self, module: str, layer: Layer, ranks: RankChoice, dtype: torch.dtype | None) -> None:
        old, held = layer.product(), layer.held["lora"]
        kernel = tuple(held.get("mid", held["down"]).shape[2:])
        u, s, vt = product_svd(old)
        rank = min(ranks.of(s, kernel), old.rank)
        scale, new_scale = layer.scale_at(old.rank), layer.scale_at(rank)
        factor = scale / new_scale if new_scale else 1.0
        new = old
        if rank < old.rank:
            found = balanced(u, s, vt, rank)
            new = LowRank(found.up * factor, found.down)
        written = self._write(module, held, new, kernel, dtype)
        self.former[module], self.ranks[module] = old.rank, rank
        if math.prod(kernel) > 1:
            self.conv_ranks.append(rank)
        back = LowRank(written.up.double() / factor, written.down.double())
        self.whole += scale**2 * float(s.square().sum())
        self.kept += scale**2 * float(s[:rank].square().sum())
        if new is not old or dtype is not None:
            self.lost += scale**2 * _squared_distance(old, back)

    def _write(
        self, module: str, held: Mapping[str, Tensor], new: LowRank, kernel: tuple[int, ...], dtype: torch.dtype | None
    ) -> LowRank:
        """Replaces the layer's factors, in the shapes of its file, and gives what is written."""
        keys = self._keys[module]
        up = new.up.reshape(*new.up.shape, *[1] * (held["up"].ndim - 2))
        down = new.down.unflatten(1, (-1, *kernel)) if kernel else new.down
        for role, tensor in (("up", up), ("down", down)):
            own = self.tensors[keys[role]].dtype
            wanted = dtype or (own if own in _KEPT else torch.float32)
            self.tensors[keys[role]] = tensor.to(wanted)
            if not self.tensors[keys[role]].float().isfinite().all():
                raise StudioError(
                    f"The values of {shortened(module)} are too large for {str(wanted).removeprefix('torch.')}. Give "
                    "--dtype float32, or another file."
                )
        if "mid" in held:  # Tucker's core is a part of the new down factor
            del self.tensors[keys["mid"]]
        return LowRank(self.tensors[keys["up"]].flatten(1), self.tensors[keys["down"]].flatten(1))


def _squared_distance(first: LowRank, second: LowRank) -> float:
    """The squared Frobenius norm of the difference of two products, by QR of their factors side by side."""
    upper = torch.linalg.qr(torch.cat([first.up.double(), -second.up.double()], 1)).R
    lower = torch.linalg.qr(torch.cat([first.down.double(), second.down.double()]).mT).R
    return float((upper @ lower.mT).square().sum())
