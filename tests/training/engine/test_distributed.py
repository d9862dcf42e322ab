"""Two processes that train one concept together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from studio.adapters.concept_file import TrainedConcept, from_bytes
from training.engine.distributed import ProcessGroup

TRAIN = """
import sys
from pathlib import Path
from PIL import Image
from studio.adapters.concept_file import to_bytes
from studio.models.base_model import load_base
from studio.models.sampling_settings import SamplingSettings
from training.data import class_images
from training.engine.trainer import train_concept
from training.config.recipe import Recipe
from training.engine.distributed import ProcessGroup

group = ProcessGroup.from_env()
class_images._SETTINGS = SamplingSettings(num_inference_steps=2, batch_size=4)
base, folder = load_base(sys.argv[1], device="cpu"), Path(sys.argv[2])
pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange", "teal")]
recipe = Recipe(
    rank=4, steps=4, batch_size=5, num_class_images=4, mixed_precision="float32", threads=1,
    gradient_accumulation_steps=2,
)
trained = train_concept(base, "rex", "dog", pictures, recipe, cache=folder / "priors", checkpoints=folder / "kept")
(folder / f"{group.size}-{group.rank}").write_bytes(to_bytes(trained.concept))
(folder / f"{group.size}-{group.rank}.txt").write_text(str(trained.losses))
"""


def test_one_process_is_a_process_group_of_size_one():
    group = ProcessGroup.from_env()
    assert (group.size, group.is_main_process, group.shard([1, 2, 3])) == (1, True, [1, 2, 3])
    assert (group.any(True), group.any(False)) == (True, False)
    parts = [ProcessGroup(rank, 3).shard(range(8)) for rank in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(8))


def numbers(concept: TrainedConcept) -> torch.Tensor:
    states = [tensor.flatten() for state in concept.adapters.values() for tensor in state.values()]
    return torch.cat([*states, concept.tokens["<rex>"]["text_encoder"].flatten()])


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.slow
def test_two_processes_give_the_same_concept_as_one(tiny_folder: Path, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    options = [
        "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no",
        "--num_cpu_threads_per_process=1", "--main_process_ip=127.0.0.1", f"--main_process_port={free_port()}",
    ]  # fmt: skip
    for launcher in ([], ["-m", "accelerate.commands.launch", *options]):
        folder = tmp_path / str(len(launcher))
        folder.mkdir()
        command = [sys.executable, *launcher, str(script), str(tiny_folder), str(folder)]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=280)
    (alone,) = tmp_path.glob("0/1-0")
    first, second = sorted(tmp_path.glob("*/2-?"))
    assert first.read_bytes() == second.read_bytes()
    one, two = (from_bytes(file.read_bytes(), file.name) for file in (alone, first))
    torch.testing.assert_close(numbers(two), numbers(one), rtol=2e-3, atol=2e-4)
    losses = [json.loads(file.with_suffix(".txt").read_text()) for file in (alone, first, second)]
    assert losses[1] == losses[2]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
