"""The methods: how one frozen matrix is adapted. A new one is a new file and a line here."""

from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import Lora
from studio.adapters.spectral_additive import SpectralAdditive

ADAPTERS: dict[str, type[Adapter]] = {
    "lora": Lora,
    "spectral_additive": SpectralAdditive,
}

__all__ = ["ADAPTERS", "Adapter", "SiteContext"]
