import csv

import numpy as np
import torch
from PIL import Image
from torch import nn

from training.toybox.stages.stage import EMAWeights, run_stage
from training.toybox.stages.training_log import COLUMNS, FIRST_SHEET, LARGEST, TrainingLog, save_small, tiled


def training_log(folder, **options) -> TrainingLog:
    return TrainingLog(folder, 16, lambda step: 0.5, lambda: {"psnr_unseen": 30.123456}, **options)


def lines(folder) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_lines_are_added_below_one_header(tmp_path):
    training_log(tmp_path).write_line("small", 10, 61.4, 0.25)
    training_log(tmp_path).write_line("small", 20, 90, 0.125)
    first, second = lines(tmp_path)
    assert tuple(first) == COLUMNS
    assert [first[name] for name in ("stage", "step", "samples", "cpu_seconds")] == ["small", "10", "160", "61"]
    assert [first["loss"], first["learning_rate"], first["psnr_unseen"], first["right"]] == [
        "0.2500",
        "5.00e-01",
        "30.1235",
        "",
    ]
    assert second["samples"] == "320"


def test_a_sheet_is_drawn_at_each_doubling(tmp_path):
    kept = training_log(tmp_path, sheet=lambda: Image.new("RGB", (8, 8)))
    for step in range(1, 4 * FIRST_SHEET // 16 + 2):
        kept.write_sheet("small", step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"small-{samples:08d}.png" for samples in (FIRST_SHEET, 2 * FIRST_SHEET, 4 * FIRST_SHEET)
    ]


def test_sheets_are_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (512, 1024, 3)).astype(np.uint8)
    save_small(Image.fromarray(noise), tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size < LARGEST


def test_pictures_are_tiled_row_by_row():
    pictures = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    sheet = np.asarray(tiled(pictures, 3))
    assert sheet.shape == (4, 6, 3)
    assert sheet[::2, ::2, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_seconds_of_all_sittings_are_added_up(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("training.toybox.stages.stage.time.process_time", lambda: next(clock))
    model = nn.Linear(1, 1)
    for steps in (3, 5):
        run_stage(
            "small", tmp_path, steps, {"model": model}, lambda _: torch.zeros(()), training_log(tmp_path / "log_folder")
        )
    assert [line["step"] for line in lines(tmp_path / "log_folder")] == ["3", "5"]
    assert [line["cpu_seconds"] for line in lines(tmp_path / "log_folder")] == ["30", "50"]


def test_the_averages_are_only_lent_to_a_module():
    module = nn.Linear(2, 1)
    average = EMAWeights(module)
    with torch.no_grad():
        module.weight.add_(1)
    moved = module.weight.detach().clone()
    with average.applied_to(module):
        assert not module.training
        assert torch.equal(module.weight, average.values[0])
    assert module.training
    assert torch.equal(module.weight, moved)
