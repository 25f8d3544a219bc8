"""Names of the tensors of a published network, and ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_OFFICIAL_KEY = re.compile(r'stage(?P<stage>[0-4])\.(?P<rest>.+)\.(?P<leaf>\w+)')
_CLASSIFIER_KEY = re.compile(r'norm\.norm\.(weight|bias)|head\.(weight|bias)')


@dataclass(frozen=True)
class OfficialNames:
    """The two layouts of a family of networks; both number blocks alike, and call the parts of a block otherwise.

    Attributes:
        stem: Published name of each part of the stem to ours.
        block: Such a table for the block ``index`` of stage ``stage``, both counted from 0.
    """

    stem: Mapping[str, str]
    block: Callable[[int, int], Mapping[str, str]]

    def is_backbone(self, key: str) -> bool:
        """Tell whether a name has the form of a published backbone tensor, whatever part it names."""
        return _OFFICIAL_KEY.fullmatch(key) is not None

    def native_key(self, key: str) -> str | None:
        """Return our name of a tensor of a published state dict, None for those of the classifier.

        Raises:
            KeyError: If it is no name of a published network of this family.
        """
        if _CLASSIFIER_KEY.fullmatch(key):
            return None
        match = _OFFICIAL_KEY.fullmatch(key)
        if match is None:
            raise KeyError(key)
        stage, rest, leaf = int(match['stage']), match['rest'], match['leaf']
        if stage == 0:
            return f'stem.{self.stem[rest]}.{leaf}'
        index, _, rest = rest.partition('.')
        if not index.isdecimal():
            raise KeyError(key)
        return f'stages.{stage - 1}.{index}.{self.block(stage - 1, int(index))[rest]}.{leaf}'

    def official_key(self, key: str) -> str:
        """Return the published name of one of our tensors: the inverse of :meth:`native_key`.

        Raises:
            KeyError: If it is no tensor of a backbone of this family.
        """
        part, _, rest = key.partition('.')
        name, _, leaf = rest.rpartition('.')
        if part == 'stem':
            return f'stage0.{_inverse(self.stem, name)}.{leaf}'
        if part != 'stages' or name.count('.') < 2:
            raise KeyError(key)
        stage, index, name = name.split('.', 2)
        if stage not in tuple('0123') or not index.isdecimal():
            raise KeyError(key)
        return f'stage{int(stage) + 1}.{index}.{_inverse(self.block(int(stage), int(index)), name)}.{leaf}'

    def known(self, key: str) -> bool:
        """Tell whether a name is that of a tensor of a published backbone of this family."""
        try:
            return self.native_key(key) is not None
        except KeyError:
            return False

    def known_native(self, key: str) -> bool:
        """Tell whether a name is one of ours for a tensor of a backbone of this family."""
        try:
            self.official_key(key)
        except KeyError:
            return False
        return True


def _inverse(table: Mapping[str, str], value: str) -> str:
    for key, candidate in table.items():
        if candidate == value:
            return key
    raise KeyError(value)
