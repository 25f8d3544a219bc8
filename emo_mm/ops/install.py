"""Which ops of mmcv are in use, and the command that installs compiled ones."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from emo_mm.errors import UserError

# What provides ``mmcv``: as installed -> the distribution that has the compiled ops, in the same files
COMPILED_FROM = {'onedl-mmcv': 'onedl-mmcv', 'mmcv-lite': 'mmcv', 'mmcv': 'mmcv'}


class MissingOpError(UserError, NotImplementedError):
    """An op of mmcv that is neither compiled nor has a stand-in.

    Args:
        op: Name of the op.
    """

    def __init__(self, op: str) -> None:
        super().__init__(
            f'mmcv was installed without its compiled ops, and emo_mm has no stand-in for {op}; compile mmcv '
            f'(C++ compiler, 10 to 15 minutes): {compile_command()}'
        )


def provider() -> str | None:
    """Return the distribution that provides ``mmcv``, None if none does."""
    return first_installed(COMPILED_FROM)


def first_installed(distributions: Iterable[str]) -> str | None:
    """Return the first of several distributions that is installed, None if none is."""
    for name in distributions:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    return None


def compile_command() -> str:
    """Return the command that installs mmcv with its ops compiled, at the version that is installed."""
    name = provider() or 'onedl-mmcv'
    try:
        pinned = f'{COMPILED_FROM[name]}=={metadata.version(name)}'
    except metadata.PackageNotFoundError:
        pinned = name
    # torch must be seen by the build, and pip's cache may hold a wheel for another torch
    build = f'MMCV_WITH_OPS=1 pip install --no-cache-dir --no-build-isolation --no-deps --force-reinstall {pinned}'
    tools = "pip install 'setuptools<82' wheel ninja"
    return f'pip uninstall -y mmcv-lite && {tools} && {build}' if name == 'mmcv-lite' else f'{tools} && {build}'


def ops_in_use() -> Literal['compiled', 'torch', 'none', 'no mmcv']:
    """Tell which ops a process gets that imports ``mmcv.ops``; nothing is imported but ``mmcv`` itself.

    Returns:
        ``compiled`` (mmcv's own), ``torch`` (the stand-ins), ``none`` (mmcv without ops), or ``no mmcv``.
    """
    if find_spec('mmcv') is None:
        return 'no mmcv'
    spec = find_spec('mmcv._ext')
    if spec is None:
        return 'none'
    return 'torch' if Path(spec.origin or '').name == 'ext.py' else 'compiled'
