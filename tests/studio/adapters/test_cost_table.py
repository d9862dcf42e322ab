"""The stored tables of what methods cost, which `studio adapters` shows without torch."""

import json

import pytest

from studio.adapters import ADAPTERS
from studio.adapters.cost_table import architecture_table
from studio.bundled import ADAPTER_COSTS, stored_cost_table
from studio.models.architectures import ARCHITECTURES

SLOW = {"sd21", "sdxl"}


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in ARCHITECTURES]
)
def test_stored_tables_are_what_is_counted_now(architecture: str):
    counted = json.loads(json.dumps(architecture_table(architecture)))
    assert stored_cost_table(architecture) == counted, "run python -m studio.adapters.cost_table"


def test_every_architecture_and_method_is_stored():
    stored = json.loads(ADAPTER_COSTS.read_text())
    assert [*stored] == [*ARCHITECTURES]
    assert all([*table] == [*ADAPTERS] for table in stored.values())
    assert stored_cost_table("no such") is None
