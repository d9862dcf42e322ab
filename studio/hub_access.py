"""Access to the Hugging Face Hub, and the proxies of the environment through which it goes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Address

import httpx

from concepts.errors import StudioError

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
"""Environment variables of proxies; each may also be written in capitals."""


def proxy_value(environment: Mapping[str, str], name: str) -> str:
    """The value of one of PROXY_VARIABLES; empty where it is unset."""
    return environment.get(name) or environment.get(name.upper()) or ""


def unusable_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with proxies that httpx, which downloads from the hub, cannot use, with what to do, by variable."""
    hosts = [host.strip() for host in proxy_value(environment, "no_proxy").split(",")]
    if "*" in hosts:
        return {}
    found = {name: _fault(proxy_value(environment, name)) for name in PROXY_VARIABLES[:-1]}
    found["no_proxy"] = next(filter(None, map(_fault_of_host, hosts)), "")
    return {name: fault for name, fault in found.items() if fault}


@contextmanager
def hub_access() -> Iterator[None]:
    """Around what may download from the hub: its failure names the proxies that cannot be used, as StudioError."""
    try:
        yield
    except Exception as error:  # what httpx raises for them is of many kinds
        if not (faults := unusable_proxies(os.environ)):
            raise
        said = f"{error} " if isinstance(error, StudioError) else "Nothing can be downloaded. "
        raise StudioError(said + " ".join(f"{name} {fault}" for name, fault in faults.items())) from error


def _fault(value: str) -> str:
    if not value:
        return ""
    try:
        httpx.HTTPTransport(proxy=value if "://" in value else f"http://{value}", verify=False).close()
    except ImportError:
        return "names a SOCKS proxy, for which the package socksio is missing. Run uv pip install socksio, or unset it."
    except (ValueError, httpx.InvalidURL):
        return "names no proxy that can be used. Set it to http://HOST:PORT, or unset it."
    return ""


def _fault_of_host(host: str) -> str:
    """What is wrong with an entry of no_proxy, which httpx makes a pattern of URLs."""
    try:
        pattern = host if "://" in host else f"all://[{IPv6Address(host)}]"
    except ValueError:
        pattern = f"all://*{host}"
    try:
        httpx.Client(mounts={pattern: None}, trust_env=False, verify=False).close()
    except (ValueError, httpx.InvalidURL):
        return f"has an entry that is no host, {host!r}. Write hosts separated by commas, or unset it."
    return ""
