"""What test_finite runs: two processes train, the second meets a number that is not finite, and their exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path


def train(rank: int, folder: Path) -> int:
    import importlib.util

    import torch
    from mmengine.runner import Runner
    from planning import guard_numbers

    from emo_mm.engine.cpu.runner import cpu_runner
    from emo_mm.errors import UserError

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location('test_finite', Path(__file__).parent / 'engine' / 'test_finite.py')
    test_finite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(test_finite)
    cfg = test_finite.config(folder / 'run', data=dict(bad=[9]))
    cfg.launcher = 'pytorch'
    cfg.env_cfg = dict()
    guard_numbers(cfg)
    runner = cpu_runner(cfg, Runner)
    try:
        runner.train()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return 1
    return 0


def main(folder: Path) -> None:
    port = 20000 + os.getpid() % 20000
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), str(rank)],
            env={
                **os.environ,
                'MASTER_ADDR': '127.0.0.1',
                'MASTER_PORT': str(port),
                'WORLD_SIZE': '2',
                'RANK': str(rank),
                'LOCAL_RANK': str(rank),
            },
        )
        for rank in range(2)
    ]
    (folder / 'exits.json').write_text(json.dumps([process.wait() for process in processes]))


if __name__ == '__main__':
    if len(sys.argv) > 2:
        sys.exit(train(int(sys.argv[2]), Path(sys.argv[1])))
    main(Path(sys.argv[1]))
