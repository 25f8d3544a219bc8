"""Packages whose names are imported on first use, so that importing the package itself stays cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a package that imports each of its names from the module that defines it.

    Args:
        package: ``__name__`` of the package.
        homes: Name to the module that defines it, as a path below the package.
    """

    def look_up(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(import_module(f'{package}.{homes[name]}'), name)

    return look_up
