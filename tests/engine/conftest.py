"""What the tests of the engine share."""

import multiprocessing

import pytest


@pytest.fixture(scope='session')
def processes(repo_root):
    """Processes forked from one that has imported all that a training needs: they start in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('PYTHONPATH', f'{repo_root}:{repo_root / "tests"}')
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(['toy_training'])
        yield context
