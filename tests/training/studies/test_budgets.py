import pytest

from studio.adapters import ADAPTERS
from studio.adapters.cost import num_parameters, shapes_of
from studio.models.architectures import architecture_sites
from training.studies.budgets import METHODS, budgets, lora_of_rank_1, nearest_to_a_tenth

SHAPES = {name: shapes_of(architecture_sites(name)) for name in ("toybox", "sd15")}


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_sizes_reach_from_the_least_to_about_four_times_lora(method: str, architecture: str):
    shapes = SHAPES[architecture]
    unit, sizes = lora_of_rank_1(shapes), budgets(method, shapes)
    numbers = [size.trained for size in sizes]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] <= 4.2 * unit
    for size in sizes:
        assert num_parameters(method, ADAPTERS[method].Config(**size.options), shapes) == size.trained
    if method not in ("svdiff", "hydra"):
        assert len(sizes) == 4
        assert numbers[-1] > 3 * unit


def test_sizes_at_stable_diffusion_are_the_expected_ones():
    found = {method: [size.trained for size in budgets(method, SHAPES["sd15"])] for method in METHODS}
    assert found["lora"] == [273_024, 546_048, 819_072, 1_092_096]
    assert found["oft"] == [13_770, 57_210, 233_100, 940_920]
    assert found["svdiff"] == [130_560]
    assert found["hydra"] == [2 * 273_216, 4 * 273_216]
    assert found["spectral_rotational"] == [176 * 2, 176 * 12 * 11, 176 * 39 * 38, 176 * 79 * 78]
    assert found["vera"][0] == 136_880
    assert found["lidb"][0] == 176 * 3


def test_few_sizes_are_those_next_to_a_tenth_of_lora():
    shapes = SHAPES["toybox"]
    tenth = lora_of_rank_1(shapes) / 10
    rotations = nearest_to_a_tenth(budgets("spectral_rotational", shapes), shapes, 1)
    assert tenth / 2 < rotations[0].trained <= tenth
    assert [size.trained for size in nearest_to_a_tenth(budgets("lora", shapes), shapes, 2)] == [35_584, 71_168]
