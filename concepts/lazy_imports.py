"""Packages whose public names are imported when they are first used, so that importing the package itself is fast."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(
    package: str, modules: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__` (PEP 562), for the names that each of these modules defines.

    `package` is the package's `__name__`, and the keys of `modules` are full module names. `__getattr__` imports the
    module, keeps the value in the package, and raises AttributeError for any other name.
    """
    source = {name: module for module, names in modules.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name not in source:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(source[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *source})

    return get_attribute, list_names
