"""What is installed: the configs of this package, and the distributions of the two OpenMMLab stacks."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from emo_mm.errors import UserError
from emo_mm.ops.install import COMPILED_FROM, first_installed

# import name -> the distribution that provides it, per stack; both stacks install into the same import names
DISTRIBUTIONS = {
    'mmengine': {'onedl': 'onedl-mmengine', 'classic': 'mmengine'},
    'mmcv': {'onedl': 'onedl-mmcv', 'classic': 'mmcv-lite'},
    'mmdet': {'onedl': 'onedl-mmdetection', 'classic': 'mmdet'},
    'mmseg': {'onedl': 'onedl-mmsegmentation', 'classic': 'mmsegmentation'},
    'mmpretrain': {'onedl': 'onedl-mmpretrain', 'classic': 'mmpretrain'},
}
STACKS = ('onedl', 'classic')


def config_root() -> Path:
    """Return the folder of the configs: the one that a wheel carries, or that of the clone."""
    package = Path(__file__).resolve().parent
    for root in (package / '.mim' / 'configs', package.parent / 'configs'):
        if root.is_dir():
            return root
    raise UserError(f'no configs beside {package}: install emo_mm again, with `pip install .` or `pip install -e .`')


def read_pins(*names: str) -> dict[str, str]:
    """Return the versions this release is tested with, by distribution, as ``requirements/<name>.txt`` list them."""
    folder = config_root().parent / 'requirements'
    text = '\n'.join((folder / f'{name}.txt').read_text(encoding='utf-8') for name in names)
    return dict(re.findall(r'^([\w.-]+)==([^\s;]+)', text, re.MULTILINE))


def stack_pins(stack: str) -> dict[str, str]:
    """Return the tested versions of everything that runs on one stack, by distribution."""
    return read_pins('build', 'common', stack, f'mmcv-{stack}')


def installed(distribution: str) -> str | None:
    """Return the version of a distribution without its local part (``+cu130``), None if it is not installed.

    mmcv with its compiled ops counts as ``mmcv-lite``.
    """
    name = installed_name(distribution)
    return metadata.version(name).split('+')[0] if name else None


def installed_name(distribution: str) -> str | None:
    """Return under which name a distribution is installed: its own, or that of the one with compiled ops."""
    return first_installed(dict.fromkeys((distribution, COMPILED_FROM.get(distribution, distribution))))


def stacks_present() -> list[str]:
    """Return the stacks of which any distribution is installed."""
    return [s for s in STACKS if any(installed(names[s]) for names in DISTRIBUTIONS.values())]
