"""Proxies of the environment that cannot be used, and how a download that fails for them ends."""

import re
from collections.abc import Callable

import pytest

from concepts.errors import StudioError
from studio.annotation.captioning import load_captioner
from studio.hub_access import PROXY_VARIABLES, hub_access, unusable_proxies
from studio.metrics.clip import load_scorer
from studio.metrics.dino import load_backbone
from studio.models.base_model import load_base
from studio.models.family_detection import family_of_source

NO_PROXY = "names no proxy that can be used"


@pytest.fixture
def proxies(monkeypatch) -> Callable[[dict[str, str]], None]:
    """A function that sets the environment's proxies to these alone."""

    def set_up(values: dict[str, str]) -> None:
        for name in PROXY_VARIABLES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_up


@pytest.mark.parametrize(
    ("environment", "faults"),
    [
        ({}, {}),
        ({"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "127.0.0.1:9"}, {}),
        ({"no_proxy": "a.example, ::1,.b,10.0.0.0/8"}, {}),
        ({"all_proxy": "socks5://127.0.0.1:9"}, {"all_proxy": "names a SOCKS proxy.*uv pip install socksio"}),
        ({"HTTPS_PROXY": "socks5h://127.0.0.1:9"}, {"https_proxy": "names a SOCKS proxy"}),
        ({"http_proxy": "ftp://127.0.0.1:9"}, {"http_proxy": NO_PROXY}),
        ({"https_proxy": "http://[::1"}, {"https_proxy": NO_PROXY}),
        ({"http_proxy": "http://a:port"}, {"http_proxy": NO_PROXY}),
        ({"no_proxy": "localhost,[::1"}, {"no_proxy": "has an entry that is no host, '.::1'"}),
        ({"all_proxy": "ftp://x", "no_proxy": "*"}, {}),
    ],
)  # fmt: skip
def test_proxies_that_cannot_be_used(environment: dict[str, str], faults: dict[str, str]):
    found = unusable_proxies(environment)
    assert found.keys() == faults.keys()
    assert all(re.match(faults[name], fault) for name, fault in found.items())


@pytest.mark.parametrize("load", [load_base, family_of_source, load_backbone, load_captioner, load_scorer])
@pytest.mark.parametrize(
    "values", [{"all_proxy": "socks5://127.0.0.1:9"}, {"http_proxy": "ftp://127.0.0.1:9"}, {"no_proxy": "[::1"}]
)
def test_a_download_names_the_proxy(proxies, monkeypatch, load: Callable[[str], object], values: dict[str, str]):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    proxies(values)
    ((name, _),) = values.items()
    with pytest.raises(StudioError, match=rf"{name} (names|has)"):
        load("nobody/nothing")


def test_other_errors_stay_as_they_are(proxies):
    proxies({})
    with pytest.raises(KeyError), hub_access():
        raise KeyError("x")
