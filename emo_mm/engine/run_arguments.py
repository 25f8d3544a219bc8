"""The arguments that training and testing share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from emo_mm.arguments import Argument, Group, add_options, read_options
from emo_mm.engine.options import RunOptions
from emo_mm.errors import UserError

_Options = TypeVar('_Options', bound=RunOptions)

_OWN_DATA = Group('own data', 'another place of the data set, or a data set of your own')
_FAULTS = Group('faults in the data', 'all files are checked first; see docs/reliability.md')
_SHARED = {
    'work_dir': Argument(metavar='DIR'),
    'cfg_options': Argument(metavar='KEY=VALUE', words=True),
    'cache_gb': Argument(metavar='GB'),
    'data': Argument(group=_OWN_DATA),
    'data_root': Argument(metavar='DIR'),
    **{f'{split}_ann': Argument(metavar='PATH') for split in ('train', 'val', 'test')},
    **{f'{split}_images': Argument(metavar='DIR') for split in ('train', 'val', 'test')},
    'classes': Argument(metavar='FILE'),
    'split': Argument(metavar='SHARES'),
    'palette': Argument(metavar='FILE'),
    'ignore': Argument(metavar='LABEL'),
    'check': Argument(off='--skip-check', group=_FAULTS),
    'bad_data': Argument(group=_FAULTS),
}


def add_run_arguments(parser: argparse.ArgumentParser, options: type[RunOptions], own: Mapping[str, Argument]) -> None:
    """Add the arguments of a run.

    Args:
        parser: The parser.
        options: The dataclass of the options.
        own: How the arguments that the two commands do not share differ from their fields.
    """
    add_options(parser, options, _SHARED | dict(own))
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_run_options(args: argparse.Namespace, options: type[_Options]) -> _Options:
    """Return the options of a run.

    Raises:
        UserError: If a setting for the config is not of the form KEY=VALUE.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))  # as torch.distributed.launch gives it
    return read_options(args, options, {'cfg_options': _parse_cfg_options(getattr(args, 'cfg_options', ()))})


def _parse_cfg_options(items: Sequence[str]) -> dict[str, Any]:
    """Return dotted keys to values, parsed as OpenMMLab's tools parse them."""
    if not items:
        return {}
    from mmengine.config import DictAction

    for item in items:
        if '=' not in item:
            raise UserError(f'--cfg-options {item}: it must be KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *items]).cfg_options
