"""What the table of methods says of merging and exporting is what merging and exporting do."""

from pathlib import Path
from typing import Any

import pytest

from concepts.errors import StudioError
from studio.adapters import ADAPTERS
from studio.bundled import stored_cost_table
from studio.composition import MERGES
from studio.formats.exporting import export
from studio.formats.method_capabilities import WEIGHT_MERGES, capabilities
from studio.models.base_model import Base


def known(adapter: str, exact_rank: int | None) -> dict[str, Any]:
    return capabilities(adapter, ADAPTERS[adapter].Config(), exact_rank)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_method_has_an_equation_and_a_source(adapter: str):
    found = known(adapter, 8)
    token_only = adapter in ("textual_inversion", "prompt_tuning")
    assert token_only or found["equation"]
    assert found["source"]
    assert any(character.isdigit() for character in found["source"])


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "lycoris", "full"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_exports_are_as_the_table_says(base: Base, adapter: str, layout: str, tmp_path: Path, random_concept):
    stored = stored_cost_table("sd15")
    assert stored is not None
    said = known(adapter, None if adapter == "vera" else stored[adapter]["exact_rank"])["exports"][layout]
    concepts = {"rex": random_concept(base, adapter)}
    if said == "no":
        with pytest.raises(StudioError):
            export(base, concepts, layout, tmp_path / "rex.safetensors")
        return
    made = export(base, concepts, layout, tmp_path / "rex.safetensors", rank=1 if said == "approximated" else None)
    if said in ("exact", "without biases"):
        assert made.error < 1e-6
        assert (made.lost_biases > 0) is (said == "without biases")
    elif said == "approximated" and adapter != "t_lora":
        assert made.error > 1e-3


def test_the_merges_are_those_that_there_are():
    assert {*WEIGHT_MERGES, "spectral", "orthogonal"} == {*MERGES}
