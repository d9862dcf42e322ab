import pytest
import torch
from torch import nn

from training.toybox.stages.muon import Muon, MuonWithAdamW, orthogonalised
from training.toybox.stages.stage import set_learning_rate


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_singular_values_become_nearly_one_and_their_vectors_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    assert result.dtype == torch.float32
    kept = torch.diag(left.T @ result @ right.T)
    clear = values > 0.1 * values.max()  # the smallest need more rounds
    assert ((kept[clear] > 0.6) & (kept[clear] < 1.3)).all()
    torch.testing.assert_close(left @ torch.diag(kept) @ right, result, atol=0.05, rtol=0)


def test_the_size_of_a_gradient_does_not_count():
    gradient = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(orthogonalised(1e-4 * gradient), orthogonalised(gradient), atol=0.05, rtol=0)
    assert orthogonalised(torch.zeros(3, 4)).eq(0).all()


def test_a_convolution_moves_as_the_matrix_of_its_filters():
    torch.manual_seed(0)
    start, gradient = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    convolution, matrix = nn.Parameter(start.clone()), nn.Parameter(start.movedim(1, -1).flatten(1).clone())
    laid_out = nn.Parameter(start.clone().contiguous(memory_format=torch.channels_last))
    optimizer = Muon([convolution, matrix, laid_out], 0.1)
    for _ in range(3):
        convolution.grad, matrix.grad = gradient.clone(), gradient.movedim(1, -1).flatten(1).clone()
        laid_out.grad = gradient.clone().contiguous(memory_format=torch.channels_last)
        optimizer.step()
    torch.testing.assert_close(convolution.movedim(1, -1).flatten(1), matrix, rtol=0, atol=0)
    torch.testing.assert_close(convolution, laid_out, rtol=0, atol=0)
    assert laid_out.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(convolution, start)


def test_parameters_of_one_shape_move_together_as_each_would_alone():
    torch.manual_seed(0)
    starts, gradients = torch.randn(3, 12, 8), torch.randn(3, 12, 8)
    together, alone = (
        [nn.Parameter(start.clone()) for start in starts],
        [nn.Parameter(start.clone()) for start in starts],
    )
    for parameter, other, gradient in zip(together, alone, gradients, strict=True):
        parameter.grad, other.grad = gradient.clone(), gradient.clone()
    untouched = nn.Parameter(torch.zeros(12, 8))
    Muon([*together, untouched], 0.1).step()
    for parameter in alone:
        Muon([parameter], 0.1).step()
    torch.testing.assert_close(torch.stack(list(together)), torch.stack(list(alone)), rtol=0, atol=0)
    assert untouched.eq(0).all()


def test_rows_of_a_tall_matrix_move_as_far_as_those_of_a_square_one():
    torch.manual_seed(0)
    tall, square = nn.Parameter(torch.zeros(64, 16)), nn.Parameter(torch.zeros(16, 16))
    tall.grad, square.grad = torch.randn(64, 16), torch.randn(16, 16)
    Muon([tall, square], 0.1).step()
    assert tall.norm(dim=1).mean().item() == pytest.approx(square.norm(dim=1).mean().item(), rel=0.25)
    assert tall.norm(dim=1).mean().item() == pytest.approx(0.1, rel=0.3)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.layer = nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layer(self.embedding(ids)).square().mean()


def test_matrices_are_muons_and_the_rest_are_adamws():
    one, two = Words(), Words()
    optimizer = MuonWithAdamW([(one, 1.0), (two, 0.2)], 0.01, 0.001)
    assert [group["params"] for group in optimizer.muon.param_groups] == [[one.layer.weight], [two.layer.weight]]
    assert [len(group["params"]) for group in optimizer.adam.param_groups] == [2, 2]
    set_learning_rate(optimizer, 0.01)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.002, 0.001, 0.0002])


def test_a_training_resumes_exactly_from_the_state():
    def steps(model: Words, optimizer: MuonWithAdamW, first: int, last: int) -> None:
        for step in range(first, last):
            model(torch.tensor([step % 5, 1])).backward()
            optimizer.step()
            optimizer.zero_grad()

    def fresh() -> tuple[Words, MuonWithAdamW]:
        torch.manual_seed(0)
        model = Words()
        return model, MuonWithAdamW([(model, 1.0)], 0.02, 0.01)

    whole, optimizer = fresh()
    steps(whole, optimizer, 0, 6)
    half, optimizer = fresh()
    steps(half, optimizer, 0, 3)
    resumed, other = fresh()
    resumed.load_state_dict(half.state_dict())
    other.load_state_dict(optimizer.state_dict())
    steps(resumed, other, 3, 6)
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())
