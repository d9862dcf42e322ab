import torch

from studio.layers.random_bases import orthogonal_rows, uniform
from studio.layers.rotations import skew, skew_size

CPU = torch.device("cpu")


def test_what_is_cached_in_inference_mode_can_be_used_in_training():
    with torch.inference_mode():
        skew(torch.ones(skew_size(23)), 23)
        uniform(97, 3, 5, CPU)
        orthogonal_rows(97, 5, 1, 3, CPU)
    numbers = torch.ones(skew_size(23), requires_grad=True)
    skew(numbers, 23).square().sum().backward()
    assert numbers.grad is not None
    assert torch.equal(numbers.grad, torch.full((skew_size(23),), 4.0))
    for kept in (uniform(97, 3, 5, CPU), orthogonal_rows(97, 5, 1, 3, CPU)):
        weight = torch.ones(2, 3, requires_grad=True)
        (weight @ kept).square().sum().backward()
        assert weight.grad is not None
