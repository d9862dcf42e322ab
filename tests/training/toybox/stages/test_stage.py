from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from training.toybox.stages import stage
from training.toybox.stages.stage import (
    EMAWeights,
    channels_last,
    learning_rate,
    run_stage,
    set_learning_rate,
    step_rng,
)


def small_training(folder, steps: int, log: list[int]) -> dict[str, torch.Tensor]:
    """Trains two layers with everything that a stage has, and gives the average's weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    average = EMAWeights(model)

    def update(step: int) -> torch.Tensor:
        log.append(step)
        step_rng(5, step)
        loss = model(torch.randn(8, 3)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step)
        return loss

    run_stage("small", folder, steps, {"model": model, "optimizer": optimizer, "average": average}, update)
    average.copy_to(model)
    return model.state_dict()


def test_a_stage_that_was_killed_goes_on_exactly(tmp_path, interrupted):
    whole_log, log = [], []
    whole = small_training(tmp_path / "whole", 4, whole_log)
    with interrupted(2):
        small_training(tmp_path / "halves", 4, log)
    resumed = small_training(tmp_path / "halves", 4, log)
    assert whole_log == log == [0, 1, 2, 3]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_stage_takes_no_step_more_but_can_be_extended(tmp_path):
    log = []
    first = small_training(tmp_path, 3, log)
    again = small_training(tmp_path, 3, log)
    assert log == [0, 1, 2]
    assert all(torch.equal(first[name], again[name]) for name in first)
    longer = small_training(tmp_path, 5, log)
    assert log == [0, 1, 2, 3, 4]
    assert not torch.equal(first["0.weight"], longer["0.weight"])


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    small_training(tmp_path, 2, [])
    before = (tmp_path / "small.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("concepts.storage.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        small_training(tmp_path, 3, [])
    assert (tmp_path / "small.pt").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["small.pt"]


def test_a_checkpoint_holds_no_code(tmp_path):
    torch.save({"step": np.random.default_rng}, tmp_path / "small.pt")
    with pytest.raises(Exception, match="weights_only"):
        small_training(tmp_path, 2, [])


def test_the_average_follows_the_module():
    module = nn.Linear(2, 1)
    average = EMAWeights(module, decay=0.9)
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    average.update(module, 10_000)
    copy = nn.Linear(2, 1)
    average.copy_to(copy)
    torch.testing.assert_close(copy.weight.detach(), start + 0.1)
    average.update(module, 0)  # early on it has a short memory
    average.copy_to(copy)
    torch.testing.assert_close(copy.weight.detach(), start + 0.91)
    other = EMAWeights(nn.Linear(2, 1))
    other.load_state_dict(average.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other.values, average.values, strict=True))


def test_an_average_that_looks_at_every_other_step_remembers_as_long():
    module = nn.Linear(2, 1)
    start = module.weight.detach().clone()
    average, copy = EMAWeights(module, decay=0.9, every=2), nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.add_(1)
    average.update(module, 10_000)
    average.copy_to(copy)
    assert torch.equal(copy.weight, start)
    average.update(module, 10_001)
    average.copy_to(copy)
    torch.testing.assert_close(copy.weight.detach(), start + 1 - 0.9**2)


def test_the_learning_rate_rises_stays_and_falls_to_nearly_nothing():
    rates = [learning_rate(step, 1000, 2.0, warmup=100, decay=0.3) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[99:700] == pytest.approx([2.0] * 601)
    assert all(later < earlier for earlier, later in pairwise(rates[700:]))
    assert rates[-1] == pytest.approx(2.0 * (0.03 + 0.97 / 300))
    assert learning_rate(999, 1000, 2.0, decay=0) == 2.0
    assert learning_rate(500, 4000, 2.0) == learning_rate(500, 9000, 2.0)  # the plan may grow
    assert min(learning_rate(step, 3, 1.0) for step in range(3)) > 0


def test_groups_scale_the_rate():
    one, two = nn.Linear(1, 1), nn.Linear(1, 1)
    groups = [{"params": one.parameters()}, {"params": two.parameters(), "scale": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=1)
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]


def test_the_random_numbers_of_a_step_follow_from_seed_and_step():
    def sampled(seed: int, step: int) -> tuple[float, float]:
        rng = step_rng(seed, step)
        return float(rng.random()), float(torch.rand(()))

    assert sampled(3, 7) == sampled(3, 7)
    numbers = {number for pair in (sampled(3, 7), sampled(3, 8), sampled(4, 7)) for number in pair}
    assert len(numbers) == 6


def test_convolutions_are_laid_out_channels_last():
    module = channels_last(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(2, 2)), "cpu")
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def test_progress_is_reported_on_stderr(tmp_path, capsys):
    small_training(tmp_path, 2, [])
    assert stage.CHECKPOINT_SECONDS > 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "small: step 2 of 2" in err
