"""What this machine has and lacks for the studio: versions, devices, memory, disks, folders, proxies."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement

from concepts.environment import DATABASE_VARIABLE
from concepts.storage import cache_folder, check_writable, nearest_existing, storage_path
from studio.hub_access import PROXY_VARIABLES, proxy_value, unusable_proxies
from training.reporting.cpu_name import cpu_name
from ui.services.error_messages import sentence

DISTRIBUTION = "concept-studio"
LEAST_DISK, LEAST_MEMORY = 2 * 2**30, 3 * 2**30
"""Bytes below which the demo may fail."""
PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "safetensors", "gradio")
EXTRAS = {"heic": "pillow_heif", "masks": "rembg", "postgresql": "psycopg", "ray": "ray"}
"""The module that each extra installs."""
_FROM_HUB = ("HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_DOWNLOADS = "needed only for models of the Hugging Face Hub"
State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One fact, whether it is in order, and what mends it."""

    topic: str
    value: str
    state: State = "ok"
    advice: str = ""


def findings(library: str) -> Iterator[Finding]:
    """Everything that a bug report should say, one fact after another; each names what to do if it is wrong."""
    yield Finding("Concept Studio", _version(DISTRIBUTION) or "not installed, run from a folder")
    yield from _python()
    yield from _machine()
    yield from _devices()
    yield from _packages()
    yield from _extras()
    yield from _folders(library)
    yield from _variables(os.environ)


def _python() -> Iterator[Finding]:
    old = sys.version_info < (3, 11)
    yield Finding("Python", platform.python_version(), "problem" if old else "ok", "Install Python 3.11 or newer.")
    encoding = sys.stdout.encoding or "none"
    fits = encoding.lower().replace("-", "") == "utf8"
    yield Finding(
        "terminal's encoding", encoding, "ok" if fits else "note", "Set PYTHONUTF8=1 to print all characters."
    )


def _machine() -> Iterator[Finding]:
    yield Finding("system", f"{platform.system()} {platform.release()} ({platform.machine()})")
    yield Finding("processor", f"{cpu_name()}, {psutil.cpu_count()} cores")
    memory = psutil.virtual_memory()
    state: State = "note" if memory.available < LEAST_MEMORY else "ok"
    yield Finding("memory", f"{_size(memory.available)} of {_size(memory.total)} free", state, "Close other programs.")


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a damaged installation raises errors of every kind
        yield Finding("torch", f"cannot be imported: {error}", "problem", "Install it again: uv sync --reinstall")
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            yield Finding("GPU", f"{found.name}, {_size(found.total_memory)}, CUDA {torch.version.cuda}")
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "Apple MPS")
    else:
        advice = "Toybox needs none. For Stable Diffusion use a machine with one; for NVIDIA's, install its driver."
        yield Finding("GPU", "none that torch can use", "note", advice)


def _packages() -> Iterator[Finding]:
    """The versions of the main packages, and every dependency that is missing or of a wrong version."""
    for name in PACKAGES:
        yield Finding(name, _version(name) or "not installed", "ok" if _version(name) else "problem", "Run uv sync.")
    for text in _requirements():
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _version(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            yield Finding(wanted.name, f"{found or 'none'}, needs {wanted.specifier}", "problem", "Run uv sync.")


def _extras() -> Iterator[Finding]:
    for extra, module in EXTRAS.items():
        if find_spec(module):
            yield Finding(f"extra {extra}", "installed")
        else:
            yield Finding(f"extra {extra}", "not installed", "note", f"If you need it: uv sync --extra {extra}")


def _folders(library: str) -> Iterator[Finding]:
    root = storage_path(library)
    places = {"library": root, "cache": cache_folder(), "temporary files": Path(tempfile.gettempdir())}
    for topic, place in {**places, "working folder": Path.cwd()}.items():
        if not isinstance(place, Path):
            yield Finding(topic, _without_password(str(place)))
            continue
        try:
            check_writable(place)
        except OSError as error:
            yield Finding(topic, _short(place), "problem", sentence(error))
            continue
        free = _free_disk(place)
        state: State = "problem" if free < LEAST_DISK else "ok"
        yield Finding(topic, f"{_short(place)}, {_size(free)} free", state, "Free some room, or choose another disk.")


def _variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Proxies, and what decides where models and the database are; without passwords."""
    faults = unusable_proxies(environment)
    for name in PROXY_VARIABLES:
        if fault := faults.get(name):
            value = _without_password(proxy_value(environment, name))
            yield Finding(name, value, "problem", f"{name} {fault} The proxy is {_DOWNLOADS}.")
        elif value := proxy_value(environment, name):
            yield Finding(name, _without_password(value), "note", f"The proxy is {_DOWNLOADS}.")
    for name in _FROM_HUB:
        if value := environment.get(name):
            yield Finding(name, _short(Path(value)) if name == "HF_HOME" else _without_password(value))
    if value := environment.get(DATABASE_VARIABLE):
        yield Finding(DATABASE_VARIABLE, _without_password(value))


def _requirements() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _free_disk(folder: Path) -> int:
    return shutil.disk_usage(nearest_existing(folder)).free


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _short(path: Path) -> str:
    """A path with ~ for the home folder, whose name need not be told."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _without_password(url: str) -> str:
    return re.sub(r"(?<=//)[^/]*@|^[^/]*@(?=[^/]*$)", "***@", url)
