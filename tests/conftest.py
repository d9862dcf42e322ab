"""A whole base model, tiny and with random weights, as a diffusers folder; and concepts of it that need no training."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from psycopg.sql import SQL, Identifier
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from studio.adapters.checkpoint import TrainedConcept, trained_states
from studio.adapters.registry import create_adapters, method_named
from studio.bundled import TOYBOX
from studio.models.base_model import Base, load_base
from studio.models.sampling_settings import SamplingSettings
from training.data import dataset

NO_POSTGRESQL = (
    "NOT RUN: no PostgreSQL. Install the pgserver wheel (Python 3.11 and 3.12), or put initdb and pg_ctl on the PATH "
    "and do not run as root, or set STUDIO_TEST_DATABASE to a URL."
)

SIDE = 16
"""The side of the tiny base's pictures, in pixels."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """The tiny base: pictures of 16x16, 40 sites, of which the narrowest has 32 columns."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer")
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": _text_encoder(tokenizer),
        "unet": _unet(),
        "vae": _autoencoder(),
        "scheduler": _scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    folder = tmp_path_factory.mktemp("models") / "tiny"
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory) -> Path:
    """A narrow SDXL with random weights: two text encoders, a pooled summary, and time ids."""
    torch.manual_seed(1)
    tokenizer = CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer")
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "tokenizer_2": CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer"),
        "text_encoder": _text_encoder(tokenizer),
        "text_encoder_2": CLIPTextModelWithProjection(
            _text_config(tokenizer, hidden_size=48, projection_dim=24, hidden_act="gelu")
        ),
        "unet": _unet(
            cross_attention_dim=80,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        "vae": _autoencoder(),
        "scheduler": _scheduler(),
    }
    folder = tmp_path_factory.mktemp("models") / "xl"
    StableDiffusionXLPipeline(**parts).save_pretrained(folder)
    return folder


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(_text_config(tokenizer))


def _text_config(tokenizer: CLIPTokenizer, **options: Any) -> CLIPTextConfig:
    marks: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
    }
    return CLIPTextConfig(**{**sizes, **marks, **options})


@pytest.fixture(scope="session")
def make_unet() -> Callable[[], UNet2DConditionModel]:
    """A function that makes the tiny base's UNet with weights of its own."""
    return _unet


def _unet(**options: Any) -> UNet2DConditionModel:
    sizes: dict[str, Any] = {
        "sample_size": SIDE // 2,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**{**sizes, **options})


def _autoencoder() -> AutoencoderKL:
    options: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "norm_num_groups": 8,
        "sample_size": SIDE,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**options)


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


@pytest.fixture
def base(tiny_folder: Path) -> Base:
    """The tiny base, loaded."""
    return load_base(str(tiny_folder), device="cpu")


@pytest.fixture
def quick_priors(monkeypatch):
    """Prior pictures are generated in two steps."""
    monkeypatch.setattr(dataset, "_PRIOR_SETTINGS", SamplingSettings(num_inference_steps=2, batch_size=4))


@pytest.fixture(scope="session")
def state_of() -> Callable[[Base], dict[str, Any]]:
    """A function that describes a base to the last bit, to be compared with `==`."""
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
    """All that decides which ids a text has; padding and truncation are those of the last call."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in description.items() if key not in ("padding", "truncation")}


@pytest.fixture(scope="session")
def make_concept() -> Callable[..., TrainedConcept]:
    """A function that makes a concept of a base with random adapters, as if training had given them."""
    return _make_concept


def _make_concept(
    base: Base, name: str, adapter: str = "spectral_additive", seed: int = 1, size: float = 0.1, **options: Any
) -> TrainedConcept:
    config = method_named(adapter).Config(**{"rank": 4, **options})
    adapters = create_adapters(adapter, config, base.sites, base.decomposition)
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


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory) -> Iterator[str]:
    """The URL of a real PostgreSQL server."""
    with _postgresql_in(tmp_path_factory.mktemp("postgresql")) as url:
        with psycopg.connect(url, autocommit=True) as connection:  # nothing in it has to outlast the tests
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture
def postgresql(postgresql_server: str) -> str:
    """The URL of an empty database on a real PostgreSQL server."""
    return _new_database(postgresql_server)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """What Library takes: None for SQLite, and the URL of an empty PostgreSQL database."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql")


@contextmanager
def _postgresql_in(folder: Path) -> Iterator[str]:
    """The URL of a server whose files lie in `folder`; skips the test where there is none."""
    if given := os.environ.get("STUDIO_TEST_DATABASE"):
        yield given
        return
    try:
        with warnings.catch_warnings(action="ignore"):  # where XDG_RUNTIME_DIR is not set
            import pgserver
    except ImportError:
        with _installed(folder) as url:
            yield url
        return
    running = pgserver.get_server(folder / "data")
    try:
        yield running.get_uri()
    finally:
        if process := running.get_pid():
            os.kill(process, signal.SIGQUIT)  # at once: what it would still write is of no use
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _installed(folder: Path) -> Iterator[str]:
    if not (shutil.which("initdb") and shutil.which("pg_ctl") and hasattr(os, "geteuid") and os.geteuid()):
        pytest.skip(NO_POSTGRESQL)
    data = str(folder / "data")
    subprocess.run(["initdb", "-D", data, "-U", "postgres", "-A", "trust"], check=True, capture_output=True)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
    subprocess.run(["pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"], check=True,
                   capture_output=True)  # fmt: skip
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True)


def _new_database(url: str) -> str:
    """The URL of an empty database on this server."""
    name = f"studio_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    place, _, query = url.partition("?")
    return f"{place.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a server go to the same worker of pytest-xdist, so that it starts once."""
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    if item.path.is_relative_to(Path(__file__).parent / "browser"):
        return "browser"
    given = getattr(item, "callspec", None)  # where it is one of several, by a parameter
    if "postgresql" in (*getattr(item, "fixturenames", ()), given and given.params.get("database")):
        return "postgresql"
    return None


def pytest_terminal_summary(terminalreporter) -> None:
    """Says loudly, also in a quiet run, what was left out for want of a PostgreSQL, a small disk, Ray, …"""
    reasons = [report.longrepr[2] for report in terminalreporter.getreports("skipped")]
    left_out = Counter(reason.removeprefix("Skipped: ") for reason in reasons if "NOT RUN" in reason)
    if left_out:
        terminalreporter.section("Tests that could not run here")
    for reason, count in left_out.items():
        terminalreporter.line(f"{count} tests {reason}")
