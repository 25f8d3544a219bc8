"""Lets ``_base_ = 'emo_mm::det/ssdlite_emo_1m_coco.py'`` stand in any config that MMEngine reads.

MMEngine knows such names of OpenMMLab's own packages only. What it lacks is added once, when ``mmengine.config`` is
imported, or at once if it already is. Importing ``emo_mm`` is enough for that. For tools that read a config before they
import ``emo_mm``, such as mmdet's, a copy of this file lies beside the package in ``site-packages`` as
``_emo_mm_configs.py``, and a ``.pth`` file imports it when Python starts. It therefore uses the standard library only,
and does nothing unless MMEngine is imported.
"""

import sys
from functools import partial

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MODULE = 'mmengine.config.config'
PREFIX = 'emo_mm::'  # of emo_mm.config.names, which is not imported before such a name is met


class ConfigFinder:
    """A finder of one module, which it has the other finders find, to extend it after its import."""

    @classmethod
    def find_spec(cls, fullname: str, path: object = None, target: object = None) -> 'ModuleSpec | None':
        """Return the spec that another finder has of MMEngine's reader of configs, None for any other module."""
        if fullname != MODULE:
            return None
        others = [finder for finder in sys.meta_path if getattr(finder, '__name__', '') != cls.__name__]
        found = (finder.find_spec(fullname, path, target) for finder in others)  # type: ignore[arg-type]
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_run_and_extend, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _run_and_extend(run: 'Callable[[ModuleType], None]', module: 'ModuleType') -> None:
    run(module)
    extend(module)


def extend(module: 'ModuleType') -> None:
    """Let MMEngine's reader of configs find ours; a second call does nothing.

    Args:
        module: ``mmengine.config.config``.
    """
    config = getattr(module, 'Config', None)
    plain = getattr(config, '_get_cfg_path', None)
    if config is None or plain is None or isinstance(plain, partial):
        return
    config._get_cfg_path = staticmethod(partial(_path_and_scope, plain))
    # For `mmengine.hub.get_config`, which reads what a wheel carries.
    sys.modules['mmengine.config.utils'].MODULE2PACKAGE.setdefault('emo_mm', 'emo_mm')


def _path_and_scope(
    plain: 'Callable[[str, str], tuple[str, str | None]]', name: str, filename: str
) -> 'tuple[str, str | None]':
    """Return the file of a base and the scope of its types; none for ours, which are found as if beside ``filename``.

    A scope would become that of the types of every part taken by ``{{_base_.part}}``, and they are the toolboxes'.
    """
    if not name.startswith(PREFIX):
        return plain(name, filename)
    from emo_mm.config.names import find_config

    return str(find_config(name)), None


def install() -> None:
    """Extend MMEngine's reader of configs, or see to it that its import does; a second call does nothing."""
    if MODULE in sys.modules:
        extend(sys.modules[MODULE])
    elif not any(getattr(finder, '__name__', '') == ConfigFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, ConfigFinder)


if __name__ == '_emo_mm_configs':  # the copy that the .pth file imports
    install()
