from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from typer.testing import CliRunner

from concepts.errors import StudioError
from studio.metrics.clip import load_scorer
from studio.models.base_model import generate, load_base
from studio.models.sampling_settings import SamplingSettings
from training.toybox import build
from training.toybox.build import STAGES, BaseRecipe, train_base
from training.toybox.stages import detector
from training.toybox.stages.denoiser import DenoiserRecipe
from ui.cli.base import app

RECIPE = BaseRecipe(
    autoencoder_steps=1,
    text_encoder_steps=1,
    denoiser=DenoiserRecipe(1),
    scorer_steps=1,
    detector_steps=1,
    identity_steps=1,
)

pytestmark = pytest.mark.usefixtures("small_models")


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch) -> Path:
    """Where the detector's weights go, so that no test touches the repository's."""
    monkeypatch.setattr(detector, "WEIGHTS", tmp_path / "detector.safetensors")
    return detector.WEIGHTS


def test_all_stages_make_a_base_a_scorer_and_a_detector(tmp_path, weights: Path):
    train_base(tmp_path / "work", tmp_path / "made", RECIPE, STAGES, None)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["toybox", "toybox-clip"]
    base = load_base(str(tmp_path / "made" / "toybox"), device="cpu")
    (picture,) = generate(base, "a blue cat", [0], SamplingSettings(num_inference_steps=2))
    assert picture.size == (128, 128)
    scorer = load_scorer(str(tmp_path / "made" / "toybox-clip"))
    assert scorer.text_alignment([picture], "a blue cat").isfinite().all()
    assert len(detector.detect(detector.load(), [picture])) == 1
    with safe_open(tmp_path / "made/toybox/unet/diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118 (no mapping)


def test_only_the_stages_that_are_asked_for_run(tmp_path, weights: Path):
    train_base(tmp_path / "work", tmp_path / "made", RECIPE, ("scorer",), None)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["toybox-clip"]
    assert not weights.exists()
    train_base(tmp_path / "work", tmp_path / "made", RECIPE, ("detector",), None)
    assert weights.exists()
    assert not (tmp_path / "made/toybox-clip/identity.safetensors").exists()
    train_base(tmp_path / "work", tmp_path / "made", RECIPE, ("identity",), None)
    assert (tmp_path / "made/toybox-clip/identity.json").exists()
    train_base(tmp_path / "work", tmp_path / "made", RECIPE, ("text_encoder",), None)
    assert (tmp_path / "work" / "text_encoder.pt").exists()
    assert not (tmp_path / "work" / "denoiser.pt").exists()
    assert not (tmp_path / "made" / "toybox").exists()


def test_a_training_starts_from_an_earlier_base(tmp_path):
    train_base(tmp_path / "work", tmp_path / "first", RECIPE, ("denoiser",), None)
    first = StableDiffusionPipeline.from_pretrained(tmp_path / "first" / "toybox", dtype=torch.float32)
    train_base(tmp_path / "more", tmp_path / "second", RECIPE, ("denoiser",), tmp_path / "first" / "toybox")
    second = StableDiffusionPipeline.from_pretrained(tmp_path / "second" / "toybox", dtype=torch.float32)
    old, new = first.unet.state_dict(), second.unet.state_dict()
    assert 0 < max((old[name] - new[name]).abs().max().item() for name in old) < 0.01
    assert all(torch.equal(a, b) for a, b in zip(first.vae.parameters(), second.vae.parameters(), strict=True))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()


def test_the_command_passes_its_options(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(build, "train_base", lambda *options: asked.append(options))
    options = ["train", "--work", "w", "--target", "t", "--stage", "denoiser", "--log", "l"]
    result = CliRunner().invoke(app, [*options, "--steps", "40", "--decay", "0.5", "--attention", "both", "--json"])
    assert result.exit_code == 0, result.output
    recipe = BaseRecipe(denoiser=DenoiserRecipe(40, 0.5, "both"), log_folder=Path("l"))
    assert asked == [(Path("w"), Path("t"), recipe, ("denoiser",), None)]


@pytest.mark.parametrize("wrong", [("--stage", "decoder"), ("--attention", "everywhere")])
def test_what_there_is_not_is_refused(wrong: tuple[str, str]):
    result = CliRunner().invoke(app, ["train", *wrong])
    assert isinstance(result.exception, StudioError)
    assert wrong[1] in str(result.exception)
