"""NumPy's values in a pickle, built from their bytes alone.

NumPy's own ``dtype`` and ``ndarray`` believe what a pickle says of their insides, so a made-up one reads memory that is
not its own. The types below stand for them while a checkpoint is read: numbers and texts come out as NumPy's, and
whatever else a pickle claims is refused.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numpy as np

# Of fixed kinds of numbers and texts: no objects, no structures, no dates.
_CODE = re.compile(r'\?|b1|[bBhHiIlLqQefdgFD]|[iu][1248]|f(?:2|4|8|16)|c(?:8|16)|[SU]\d{1,6}')


def stand_ins() -> list[tuple[Any, str]]:
    """Return what stands for each of NumPy's names in pickles, of NumPy 1 and 2."""
    functions = {'_reconstruct': reconstruct, 'scalar': scalar}
    return [
        *((stand_in, f'numpy.{core}.multiarray.{name}') for name, stand_in in functions.items() for core in _CORES),
        (DataType, 'numpy.dtype'),
        (ArrayName, 'numpy.ndarray'),
        # for PyTorch's unpickler, which sets the state of known types only
        (Array, f'{__name__}.Array'),
    ]


_CORES = ('core', '_core')


class DataType:
    """Stands for ``numpy.dtype``.

    Args:
        code: Its code in pickles, such as ``f8``.
        align: Of structures only.
        copy: Without meaning here.

    Raises:
        UnpicklingError: If it is not a fixed kind of number or text.
    """

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise pickle.UnpicklingError(f'numpy.dtype of {str(code)[:40]!r}')
        self.numpy = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order of a state; parts, names and fields are those of structures."""
        if not isinstance(state, tuple) or len(state) not in (8, 9) or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError('a numpy.dtype of parts')
        if state[1] in ('<', '>'):
            self.numpy = self.numpy.newbyteorder(state[1])


class ArrayName:
    """Stands for the name ``numpy.ndarray`` where ``_reconstruct`` gets it; it makes nothing."""


class Array(np.ndarray):
    """An array from a checkpoint, which is written into another one as a plain array."""

    def __new__(cls) -> Array:
        """Return an empty one, for a state to come."""
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: Any) -> None:
        """Take shape, type and bytes, which must fit each other."""
        try:
            _, shape, kind, fortran, data = state
            sizes_fit = math.prod(shape) * kind.numpy.itemsize == len(data) and min(shape, default=0) >= 0
        except (AttributeError, TypeError, ValueError):
            sizes_fit = False
        if not sizes_fit or not isinstance(data, bytes) or not isinstance(kind, DataType):
            raise pickle.UnpicklingError('a numpy.ndarray whose parts do not fit')
        whole: Any = (1, tuple(shape), kind.numpy, bool(fortran), data)
        super().__setstate__(whole)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as NumPy's own."""
        return self.view(np.ndarray).__reduce_ex__(protocol)


def reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    """Stand for NumPy's ``_reconstruct``, whose array gets its state afterwards."""
    return Array()


def scalar(kind: Any, data: Any = b'') -> Any:
    """Stand for NumPy's ``scalar``.

    Raises:
        UnpicklingError: If type and bytes do not fit each other.
    """
    if not isinstance(kind, DataType) or not isinstance(data, bytes) or len(data) != kind.numpy.itemsize:
        raise pickle.UnpicklingError('a number of NumPy whose parts do not fit')
    return np.frombuffer(data, kind.numpy)[0] if data else kind.numpy.type()
