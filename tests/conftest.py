"""What tests share: the real data beside the clone, and a way to call the command line."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]


class CliResult(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope='session')
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope='session')
def shared_dir() -> Path:
    """Real data and golden outputs, which the project does not distribute; tests that read them skip without."""
    path = REPO_ROOT.parent / 'shared'
    if not path.is_dir():
        pytest.skip(f'needs the real data in {path}, which is absent')
    return path


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., CliResult]:
    """Call ``emo-mm`` in this process: ``run_cli('list', '--task', 'det')``."""

    def run(*args: str | Path) -> CliResult:
        from emo_mm.cli import main

        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:  # argparse's way out
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capsys.readouterr()
        return CliResult(code, out, err)

    return run


@pytest.fixture(autouse=True)
def _no_scope_of_another_test():
    """Forget the default scope that a runner or an inferencer of MMEngine sets for the rest of its process."""
    yield
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _no_watch_over_loaders_of_another_test():
    """Take out the handler with which torch watches its loader processes, for the rest of its process.

    OpenVINO gives the thread another stack for signals, and leaves one that is freed where models are not closed in the
    reverse order of their opening. The next signal that has a handler in Python, such as the end of any child, would
    then be the end of the process.
    """
    yield
    from torch.utils.data._utils import signal_handling

    if signal_handling._SIGCHLD_handler_set:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal_handling._SIGCHLD_handler_set = False
