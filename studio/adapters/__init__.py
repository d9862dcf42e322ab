"""The adapter methods. To add one, write its file and add a line here."""

from studio.adapters.ada_link import AdaLink
from studio.adapters.ada_lora import AdaLora
from studio.adapters.base import Adapter, SiteContext
from studio.adapters.boft import Boft
from studio.adapters.dora import Dora
from studio.adapters.full import CustomDiffusion, Full
from studio.adapters.glora import Glora
from studio.adapters.ia3 import Ia3
from studio.adapters.imported import Imported
from studio.adapters.krona import Krona
from studio.adapters.lidb import Lidb
from studio.adapters.loha import Loha
from studio.adapters.lokr import Lokr
from studio.adapters.lora import Lora
from studio.adapters.lora_xs import LoraXs
from studio.adapters.oft import Oft
from studio.adapters.orthogonal import Orthogonal
from studio.adapters.pissa import Pissa
from studio.adapters.prefix_tuning import PrefixTuning
from studio.adapters.selective import BitFit, DiffFit, NormTuning
from studio.adapters.sequential import Hydra, SeqLora
from studio.adapters.spectral_additive import SpectralAdditive
from studio.adapters.spectral_rotational import SpectralRotational
from studio.adapters.svdiff import Svdiff
from studio.adapters.t_lora import TLora
from studio.adapters.token_only import PromptTuning, TextualInversion
from studio.adapters.vera import Vera

ADAPTERS: dict[str, type[Adapter]] = {
    "lora": Lora,
    "spectral_additive": SpectralAdditive,
    "spectral_rotational": SpectralRotational,
    "oft": Oft,
    "boft": Boft,
    "vera": Vera,
    "svdiff": Svdiff,
    "lidb": Lidb,
    "orthogonal": Orthogonal,
    "lora_xs": LoraXs,
    "seq_lora": SeqLora,
    "hydra": Hydra,
    "dora": Dora,
    "pissa": Pissa,
    "t_lora": TLora,
    "loha": Loha,
    "lokr": Lokr,
    "krona": Krona,
    "ia3": Ia3,
    "glora": Glora,
    "ada_lora": AdaLora,
    "ada_link": AdaLink,
    "bitfit": BitFit,
    "layer_norm": NormTuning,
    "difffit": DiffFit,
    "full": Full,
    "custom_diffusion": CustomDiffusion,
    "textual_inversion": TextualInversion,
    "prompt_tuning": PromptTuning,
    "prefix_tuning": PrefixTuning,
}

READABLE: dict[str, type[Adapter]] = {**ADAPTERS, "imported": Imported}
"""The adapters that a concept's file may have: the methods, and those imported from another tool's file."""

__all__ = ["ADAPTERS", "READABLE", "Adapter", "SiteContext"]
