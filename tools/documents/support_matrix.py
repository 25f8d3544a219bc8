#!/usr/bin/env python
"""Try the package with other versions of Python and torch, and write what works to docs/support.md and the README.

Each row gets an environment of its own, made as a user makes one: the built wheel with an extra, no compiler. Then
tests that touch a toolbox are run in it. ``make matrix`` calls this with the rows of ``ROWS``; others can be given:

    tools/documents/support_matrix.py 3.11:2.11.0:0.26.0 3.12:2.14.1:0.29.1

The interpreters (``python3.10`` and so on) must be on the path; a row without its interpreter is listed as not run.
Results of earlier runs stay in docs/support.json, row by row; a ``note`` that is added there by hand is shown too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python, torch, torchvision
ROWS = (
    *('3.10:2.8.0:0.23.0', '3.11:2.5.1:0.20.1', '3.11:2.8.0:0.23.0', '3.11:2.11.0:0.26.0', '3.11:2.14.1:0.29.1'),
    *('3.12:2.11.0:0.26.0', '3.12:2.14.1:0.29.1', '3.13:2.14.1:0.29.1'),
)
# The smallest set of tests in which each toolbox builds, trains, predicts, resumes and evaluates, and each op answers.
TESTS = (
    *('tests/ops', 'tests/test_inference_apis.py', 'tests/engine/test_training.py', 'tests/predict'),
    *('tests/models/test_emo.py', 'tests/models/test_emo_parity.py', 'tests/models/test_ssdlite_head.py'),
)
NO_COMPILER = {'CC': 'false', 'CXX': 'false'}
JSON, TABLE, README = ROOT / 'docs' / 'support.json', ROOT / 'docs' / 'support.md', ROOT / 'README.md'
INTRODUCTION = """# Versions of Python and torch

Written by `make matrix` (`tools/documents/support_matrix.py`): per row a clean environment from the built wheel, with
`CC` and `CXX` set to `false`, and in it the tests of training, prediction, evaluation, networks and ops.
"""
ELSEWHERE = """macOS and Windows are untested. No part of the package is compiled, so installing, training and
predicting are expected to work there; `make` and `tools/*.sh` need a Unix shell.
"""


def main() -> int:
    """Run the rows and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('rows', nargs='*', default=ROWS, metavar='PYTHON:TORCH:TORCHVISION')
    parser.add_argument('--stack', default='onedl', choices=('onedl', 'classic'))
    args = parser.parse_args()
    results = json.loads(JSON.read_text()) if JSON.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for row in args.rows:
            print(f'==> {args.stack} {row}', flush=True)
            found = run_row(row, args.stack, wheel, Path(folder) / 'env')
            print(f'    {found["result"]}', flush=True)
            note = results.get(f'{args.stack}:{row}', {}).get('note')
            results[f'{args.stack}:{row}'] = found | ({'note': note} if note else {})
            write(results)
    return 0


def build_wheel(folder: Path) -> Path:
    """Return the wheel of the clone."""
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(folder), str(ROOT)]
    subprocess.run(command, check=True)  # nosec B603
    (wheel,) = folder.glob('*.whl')
    return wheel


def run_row(row: str, stack: str, wheel: Path, venv: Path) -> dict[str, str]:
    """Return the outcome of a row: ``result`` in words, and how long installing took and which tests failed."""
    python, torch, torchvision = row.split(':')
    interpreter = shutil.which(f'python{python}')
    if interpreter is None:
        return {'result': f'not run: no python{python} on the machine'}
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([interpreter, '-m', 'venv', str(venv)], check=True)  # nosec B603
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'} | NO_COMPILER
    began = time.monotonic()
    requirements = [
        f'torch=={torch}',
        f'torchvision=={torchvision}',
        f'{wheel}[{stack}]',
        'pytest',
        'hypothesis',
        'onnxruntime',
    ]
    made = pip(venv, env, 'install', *requirements, 'opencv-python-headless<4.13')
    if made.returncode:
        return {'result': f'does not install: {last_error(made.stderr)}'}
    # opencv-python, which mmcv asks for, needs libGL, and both lie in the same folder
    pip(venv, env, 'uninstall', '-y', 'opencv-python')
    pip(venv, env, 'install', '--no-deps', '--force-reinstall', 'opencv-python-headless<4.13')
    seconds = time.monotonic() - began
    done = subprocess.run(  # nosec B603
        [venv / 'bin' / 'pytest', '-q', '-rfE', '-m', 'toolbox and not slow and not gpu', *TESTS],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    closing = re.findall(r'(?:\d+ (?:passed|failed|errors?|skipped)(?:, )?)+', done.stdout)
    failed = sorted(set(re.findall(r'^(?:FAILED|ERROR) (\S+)', done.stdout, re.MULTILINE)))
    return {
        'result': closing[-1].strip(', ') if closing else f'pytest failed: {last_error(done.stdout + done.stderr)}',
        'install_seconds': f'{seconds:.0f}',
        'failed': ' '.join(failed),
    }


def pip(venv: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the pip of an environment."""
    command = [str(venv / 'bin' / 'python'), '-m', 'pip', *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # nosec B603


def last_error(text: str) -> str:
    """Return the last line with an error, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith('error')]
    return (errors or lines or ['no output'])[-1][:200]


def rows_of(results: dict[str, dict[str, str]]) -> str:
    """Return the table, in Markdown."""
    lines = [
        '| Stack | Python | torch | torchvision | Installed in | Tests |',
        '| --- | --- | --- | --- | ---: | --- |',
    ]
    for key, found in sorted(results.items()):
        stack, python, torch, torchvision = key.split(':')
        seconds = f'{found["install_seconds"]} s' if 'install_seconds' in found else ''
        failed = f'; failed: `{found["failed"]}`' if found.get('failed') else ''
        note = f' ({found["note"]})' if found.get('note') else ''
        lines.append(f'| {stack} | {python} | {torch} | {torchvision} | {seconds} | {found["result"]}{failed}{note} |')
    return '\n'.join(lines) + '\n'


def write(results: dict[str, dict[str, str]]) -> None:
    """Write the results, docs/support.md and the table of the README."""
    JSON.write_text(json.dumps(dict(sorted(results.items())), indent=1) + '\n')
    table = rows_of(results)
    TABLE.write_text(INTRODUCTION + '\n' + table + '\n' + ELSEWHERE, encoding='utf-8')
    text = README.read_text(encoding='utf-8')
    block = re.compile(r'(<!-- support -->\n).*?(<!-- /support -->)', re.DOTALL)
    README.write_text(block.sub(lambda found: found[1] + table + found[2], text), encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())
