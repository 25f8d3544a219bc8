"""Finds the stand-in for ``mmcv._ext`` where mmcv has no compiled one.

A copy of this file lies beside the package in ``site-packages`` as ``_emo_mm_ops.py``, and a ``.pth`` file imports it
when Python starts, because mmdet may import ``mmcv.ops`` in a process that never imports ``emo_mm``. It therefore uses
the standard library only, imports next to nothing and does nothing until ``mmcv._ext`` is asked for.

``EMO_MM_OPS`` chooses: ``auto`` (the default) fills the gap only where nothing else provides ``mmcv._ext``, ``off``
never does, and ``torch`` takes the stand-ins even where compiled ops are installed, for instance for another torch.
"""

import os
import sys

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

MODULE = 'mmcv._ext'
CHOICES = ('auto', 'off', 'torch')


def choice() -> str:
    """Return what ``EMO_MM_OPS`` chooses; an unknown word counts as ``auto``, and ``emo-mm doctor`` reports it."""
    chosen = os.environ.get('EMO_MM_OPS', 'auto').strip().lower()
    return chosen if chosen in CHOICES else 'auto'


class OpsFinder:
    """Finder of one module."""

    @classmethod
    def find_spec(cls, fullname: str, path: object = None, target: object = None) -> 'ModuleSpec | None':
        """Return where the stand-in lies if ``mmcv._ext`` is asked for, None for any other module."""
        if fullname != MODULE or choice() == 'off':
            return None
        from importlib.util import find_spec, spec_from_file_location

        package = find_spec('emo_mm')  # does not import it
        for folder in (package.submodule_search_locations if package else None) or ():
            file = os.path.join(folder, 'ops', 'ext.py')  # noqa: PTH118  pathlib takes longer to import than all of this
            if os.path.exists(file):  # noqa: PTH110
                return spec_from_file_location(MODULE, file)
        return None


def install() -> None:
    """Put the finder where Python looks last, or first if ``EMO_MM_OPS`` is ``torch``; a second call does nothing."""
    if any(getattr(finder, '__name__', '') == OpsFinder.__name__ for finder in sys.meta_path):
        return
    if choice() == 'torch':
        sys.meta_path.insert(0, OpsFinder)
    elif choice() == 'auto':
        sys.meta_path.append(OpsFinder)


if __name__ == '_emo_mm_ops':  # the copy that the .pth file imports
    install()
