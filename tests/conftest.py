"""The tiny base, loaded; concepts of it that need no training; and what every run of pytest shares."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from transformers import CLIPTokenizer

from studio.adapters.concept_file import TrainedConcept, trained_states
from studio.adapters.registry import create_adapters, method_named
from studio.models.base_model import Base, load_base
from studio.models.sampling_settings import SamplingSettings
from training.data import class_images

# The same examples in each run; `--hypothesis-profile=default` draws new ones.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

pytest_plugins = ("tests.tiny_models", "tests.postgresql_server")


@pytest.fixture(scope="session")
def loaded(tiny_folder: Path) -> Iterator[Base]:
    """The tiny base, loaded once; nobody may change it."""
    base = load_base(str(tiny_folder), device="cpu")
    before = _state_of(base)
    yield base
    assert _state_of(base) == before


@pytest.fixture
def base(loaded: Base) -> Base:
    """A copy of the tiny base, which costs half of loading it."""
    return deepcopy(loaded)


@pytest.fixture(autouse=True)
def quick_priors(monkeypatch):
    """Prior pictures are generated in two steps: no test depends on what they show."""
    settings = SamplingSettings(num_inference_steps=2, batch_size=4)
    monkeypatch.setattr(class_images, "settings_of", lambda _: settings)


@pytest.fixture(scope="session")
def state_of() -> Callable[[Base], dict[str, Any]]:
    """A function that returns the exact state of a base: equal states compare equal with `==`."""
    return _state_of


def _state_of(base: Base) -> dict[str, Any]:
    pipeline = base.pipeline
    digest = hashlib.sha256()
    names = []
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for name, tensor in part.state_dict().items():
            names.append(name)
            digest.update(tensor.cpu().numpy().tobytes())
    return {
        "tensors": (names, digest.hexdigest()),
        "layers": [type(module) for module in pipeline.unet.modules()],
        "processors": {name: id(processor) for name, processor in pipeline.unet.attn_processors.items()},
        "attention": pipeline.text_encoder.config._attn_implementation,
        "tokenizer": _vocabulary_of(pipeline.tokenizer),
        "trained": any(p.requires_grad for part in base.parts.values() for p in part.parameters()),
    }


def _vocabulary_of(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """What determines the ids of a text, without padding and truncation, which the last call sets."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in description.items() if key not in ("padding", "truncation")}


@pytest.fixture(scope="session")
def make_concept() -> Callable[..., TrainedConcept]:
    """A function that makes a concept of a base with random adapters, as training would leave them."""
    return _make_concept


def _make_concept(
    base: Base, name: str, adapter: str = "spectral_additive", seed: int = 1, size: float = 0.1, **options: Any
) -> TrainedConcept:
    config = method_named(adapter).Config(**{"rank": 4, **options})
    adapters = create_adapters(adapter, config, base.sites_of(method_named(adapter).kinds(config)), base.decomposition)
    generator = torch.Generator().manual_seed(seed)
    for parameter in (p for site in adapters.values() for p in site.parameters()):
        torch.nn.init.normal_(parameter, std=size, generator=generator)
    vectors = torch.randn(1, 32, generator=generator)
    return TrainedConcept(
        base=base.decomposition.fingerprint,
        adapter=adapter,
        config=asdict(config),
        adapters=trained_states(adapters),
        tokens={f"<{name}>": {"text_encoder": vectors}},
        metadata={"name": name},
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """What tests leave outside `tmp_path` (servers' caches, clients' downloads) lies in one folder, and goes with it.

    pytest's own folders, which show what a failed test made, stay where they are.
    """
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist inherits the folder
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    held = tempfile.TemporaryDirectory(prefix="concept-studio-tests-", ignore_cleanup_errors=True)
    # After multiprocessing's own, which removes its folder in it with priority -100
    Finalize(None, held.cleanup, exitpriority=-200)
    os.environ["TMPDIR"], tempfile.tempdir = held.name, None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a server go to the same worker of pytest-xdist, so that it starts once."""
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    if item.path.is_relative_to(Path(__file__).parent / "browser"):
        return "browser"
    callspec = getattr(item, "callspec", None)  # a parametrized test has one
    if "postgresql" in (*getattr(item, "fixturenames", ()), callspec and callspec.params.get("database")):
        return "postgresql"
    return None


def pytest_terminal_summary(terminalreporter) -> None:
    """Lists which tests were skipped because PostgreSQL, a small disk, Ray … is missing, also with -q."""
    reasons = [report.longrepr[2] for report in terminalreporter.getreports("skipped")]
    not_run = Counter(reason.removeprefix("Skipped: ") for reason in reasons if "NOT RUN" in reason)
    if not_run:
        terminalreporter.section("Tests that could not run here")
    for reason, count in not_run.items():
        terminalreporter.line(f"{count} tests {reason}")
