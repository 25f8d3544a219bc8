"""``emo-mm doctor``: what is installed, whether it works, whether the data are whole, and what fixes a fault.

Each check is a function that looks and returns a :class:`Check`; only :func:`run_doctor` prints.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from emo_mm.errors import UserError, last_line
from emo_mm.ops.finder import CHOICES, choice
from emo_mm.ops.install import ops_in_use
from emo_mm.stack import (
    DISTRIBUTIONS,
    STACKS,
    config_root,
    installed,
    installed_name,
    read_pins,
    stack_pins,
    stacks_present,
)
from emo_mm.tasks import TASKS_OF_SCOPE, nouns_of
from emo_mm.version import __version__

TESTED_PYTHON = (3, 11)


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it must be.
        detail: What was found, in a line.
        fix: The one command that fixes it; empty if nothing is at fault.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ''


# --- what is installed ------------------------------------------------------------------------------------------------
def install_command(stack: str, *distributions: str) -> str:
    """Return the command that installs distributions at their tested versions, or the whole stack if none is named.

    In a clone's own environment that is the clone's make target, which starts over: what is broken may look whole
    to pip.
    """
    clone = config_root().parent
    if (clone / 'Makefile').is_file() and Path(sys.prefix).resolve().parent == clone:
        return f'make {"env-classic" if Path(sys.prefix).name == ".venv-classic" else "env"} FORCE=1'
    pins = stack_pins(stack) | {'emo-mm': __version__}
    named = distributions or tuple(names[stack] for names in DISTRIBUTIONS.values())
    # what is there but broken satisfies pip, unless it is told to install it again
    again = '--force-reinstall --no-deps ' if any(installed(name) == pins[name] for name in distributions) else ''
    pinned = ' '.join(f'{name}=={pins[name]}' for name in named)
    # pip's cache may hold an mmcv that was compiled for another torch
    return f'pip install --no-cache-dir {again}{pinned}'


def check_python() -> Check:
    """Tell which Python this is, and whether the pinned versions were tested on it; pip refuses what cannot work."""
    tested = '' if sys.version_info[:2] == TESTED_PYTHON else f' (tested with {".".join(map(str, TESTED_PYTHON))})'
    return Check('python', True, f'{platform.python_version()}{tested} at {sys.executable}')


def check_stack() -> Check:
    """Check that one OpenMMLab stack, and not a mixture, is installed."""
    present = stacks_present()
    if not present:
        detail = 'none: neither the OneDL forks nor the classic packages of OpenMMLab are installed'
        return Check('stack', False, detail, install_command('onedl'))
    if len(present) > 1:
        found = [name for names in DISTRIBUTIONS.values() for stack in STACKS if (name := installed_name(names[stack]))]
        # files of the same name overwrote each other, so both must go before one comes back
        install = install_command('onedl')
        command = install if install.startswith('make') else f'pip uninstall -y {" ".join(found)} && {install}'
        return Check('stack', False, f'mixed, each overwriting files of the other: {", ".join(found)}', command)
    return Check('stack', True, {'onedl': 'onedl (OneDL forks)', 'classic': 'classic (OpenMMLab)'}[present[0]])


def check_module(module: str, stack: str) -> Check:
    """Check that a module of the stack imports, and tell its version and the tested one if they differ."""
    distribution = DISTRIBUTIONS[module][stack]
    version = installed(distribution)
    if version is None and module in TASKS_OF_SCOPE:
        return Check(module, True, f'not installed; only {nouns_of(module)} needs it')
    if version is None:
        return Check(module, False, f'{distribution} is not installed', install_command(stack, distribution))
    return check_import(module, module, distribution, stack)


def check_toolboxes(stack: str) -> Check:
    """Check that there is at least one toolbox to train with."""
    present = [module for module in TASKS_OF_SCOPE if installed(DISTRIBUTIONS[module][stack])]
    if not present:
        toolboxes = ', '.join(f'{module} ({nouns_of(module)})' for module in TASKS_OF_SCOPE)
        return Check('toolboxes', False, f'none of {toolboxes}', install_command(stack))
    return Check('toolboxes', True, f'{", ".join(nouns_of(module) for module in present)} can be trained')


def check_import(name: str, module: str, distribution: str, stack: str) -> Check:
    """Check that a module imports, and tell its version and the tested one if they differ."""
    version, tested = installed(distribution), stack_pins(stack).get(distribution)
    try:
        import_module(module)
    except Exception as error:  # whatever an import raises is the finding; mmdet and mmseg even assert
        detail = f'{version}, but it fails to import: {last_line(error, with_type=True)}'
        return Check(name, False, detail, _fix_of_import(error, stack, distribution))
    detail = version or 'version unknown'
    return Check(name, True, detail if version == tested else f'{detail} (tested with {tested})')


def _fix_of_import(error: Exception, stack: str, distribution: str) -> str:
    if re.search(r'libGL|libgthread|libSM|libXext', str(error)):
        headless = stack_pins(stack)['opencv-python-headless']
        return f'pip install --no-deps --force-reinstall opencv-python-headless=={headless}'
    return install_command(stack, distribution)


def check_cuda() -> Check:
    """Tell whether torch can use a GPU; none is no fault."""
    import torch

    if torch.cuda.is_available():
        names = ', '.join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Check('cuda', True, f'{torch.version.cuda}: {names}')
    built = f'torch is built for CUDA {torch.version.cuda}' if torch.version.cuda else 'torch is built without CUDA'
    return Check('cuda', True, f'no GPU is usable ({built}); everything runs on the CPU')


def check_mmcv_ops(stack: str, device: str = 'cpu') -> Check:
    """Tell which ops of mmcv are in use, and check what some of them answer.

    Args:
        stack: ``onedl`` or ``classic``.
        device: ``cpu`` or ``cuda``.
    """
    name = f'mmcv ops, {device}'
    if os.environ.get('EMO_MM_OPS', 'auto').strip().lower() not in CHOICES:
        detail = f'EMO_MM_OPS is {os.environ["EMO_MM_OPS"]!r}; it must be {", ".join(CHOICES)}'
        return Check(name, False, detail, 'unset EMO_MM_OPS')
    try:
        in_use = ops_in_use()
    except Exception as error:  # whatever the import of mmcv raises, which is a fault of its own row
        detail = f'mmcv, whose ops they are, fails to import: {last_line(error, with_type=True)}'
        return Check(name, False, detail, _fix_of_import(error, stack, DISTRIBUTIONS['mmcv'][stack]))
    if in_use == 'no mmcv':
        return Check(name, False, 'mmcv is not installed', install_command(stack, DISTRIBUTIONS['mmcv'][stack]))
    if in_use == 'none' and choice() == 'off':
        return Check(name, False, 'mmcv has no compiled ops, and EMO_MM_OPS=off', 'unset EMO_MM_OPS')
    if in_use == 'none':
        detail = 'mmcv has no compiled ops, and the stand-ins of emo_mm are not found'
        return Check(name, False, detail, install_command(stack, 'emo-mm'))
    fix = 'export EMO_MM_OPS=torch' if in_use == 'compiled' else install_command(stack, 'torchvision')
    try:
        wrong = wrong_ops(device)
    except Exception as error:  # a library of another torch raises ImportError, an op not compiled for a device another
        return Check(name, False, f'{_WORDS[in_use]} fail: {last_line(error, with_type=True)}', fix)
    if wrong:
        return Check(name, False, f'{_WORDS[in_use]} give wrong answers: {", ".join(wrong)}', fix)
    return Check(name, True, f'{_WORDS[in_use]}; nms, RoIAlign and deformable convolution give the right answers')


_WORDS = {'compiled': "mmcv's compiled ops", 'torch': "emo_mm's PyTorch stand-ins (docs/ops.md)"}


def wrong_ops(device: str = 'cpu') -> list[str]:
    """Run ops whose right answers are known by hand, and return the names of those that answer otherwise."""
    import torch
    from mmcv.ops import deform_conv2d, nms, roi_align

    # two boxes that overlap by 0.9 and one apart: the weaker of the two must go; (3, 4) boxes, (3,) scores
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]], device=device)
    _, kept = nms(boxes, torch.tensor([0.8, 0.9, 0.7], device=device), iou_threshold=0.5)
    # a map that counts its columns: 1,1,4,4
    columns = torch.arange(4.0, device=device).expand(1, 1, 4, 4).contiguous()
    pooled = roi_align(columns, torch.tensor([[0.0, 1, 1, 3, 3]], device=device), 1, 1.0, 0, 'avg', True)  # 1,1,1,1
    # a kernel of one pixel that looks one column to the right of where it stands
    offset = torch.zeros(1, 2, 4, 4, device=device)
    offset[:, 1] = 1
    shifted = deform_conv2d(columns, offset, torch.ones(1, 1, 1, 1, device=device))  # 1,1,4,4
    answers = {
        'nms': kept.tolist() == [1, 2],
        'roi_align': abs(pooled.item() - 1.5) < 1e-5,
        'deform_conv': shifted[0, 0, 0].tolist() == [1, 2, 3, 0],
    }
    return [op for op, right in answers.items() if not right]


def check_backbone(stack: str) -> Check:
    """Build EMO-1M through the registry and run it on an image of 64x64."""
    try:
        import torch
        from mmengine.registry import MODELS

        backbone = MODELS.build({'type': 'emo_mm.EMO', 'arch': '1m'}).eval()
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 3, 64, 64))
    except Exception as error:  # any failure here is the finding
        detail = f'does not build and run: {last_line(error, with_type=True)}'
        return Check('emo_mm.EMO', False, detail, install_command(stack))
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    sizes = ', '.join('x'.join(map(str, found.shape[1:])) for found in maps)  # (1, C, H, W) -> CxHxW
    return Check('emo_mm.EMO', True, f'EMO-1M builds, {parameters:,} parameters; maps of a 64x64 image: {sizes}')


def environment_checks() -> Iterator[Check]:
    """Check the installation, part by part; parts that need a failed one are left out."""
    yield check_python()
    stack_found = check_stack()
    yield stack_found
    stack = (stacks_present() or ['onedl'])[0]
    torch_found = check_import('torch', 'torch', 'torch', stack)
    yield torch_found
    for module, distribution in (('torchvision', 'torchvision'), ('numpy', 'numpy'), ('cv2', 'opencv-python-headless')):
        provider = distribution if installed(distribution) else 'opencv-python' if module == 'cv2' else distribution
        yield check_import(module, module, provider, stack)
    if torch_found.ok:
        yield check_cuda()
    if not stack_found.ok:
        return
    for module in DISTRIBUTIONS:
        yield check_module(module, stack)
    yield check_toolboxes(stack)
    if not torch_found.ok:
        return
    yield check_mmcv_ops(stack)
    import torch

    if torch.cuda.is_available():
        yield check_mmcv_ops(stack, 'cuda')
    yield check_backbone(stack)


def require_tested_stack(stack: str, ops: str) -> None:
    """Check that an environment holds exactly the tested versions and that OpenCV and mmcv's ops run.

    Args:
        stack: ``onedl`` or ``classic``.
        ops: ``torch`` or ``compiled``, the ops that must be in use.

    Raises:
        UserError: Some part differs or fails; the message names all of them.
    """
    pins = stack_pins(stack) | read_pins('dev')
    faults = [
        f'{name} is {installed(name)} where {version} is pinned'
        for name, version in pins.items()
        # the CUDA bindings are pinned for Linux only
        if installed(name) != version and not (name.startswith('cuda-') and platform.system() != 'Linux')
    ]
    checks = [check_stack(), check_import('cv2', 'cv2', 'opencv-python-headless', stack), check_mmcv_ops(stack)]
    faults += [f'{check.name}: {check.detail}' for check in checks if not check.ok]
    if ops_in_use() != ops:
        faults.append(f'the ops of mmcv are {ops_in_use()}, not {ops} (FORCE=1 starts over)')
    if faults:
        raise UserError('the environment is not as pinned: ' + '; '.join(faults))


# --- the data ---------------------------------------------------------------------------------------------------------
def check_data(folder: str | Path, layout: str | None = None) -> list[Check]:
    """Check a data set of any known layout, as a training or a test does before it starts.

    Args:
        folder: Root of the data set.
        layout: Its layout, for a folder that may be read in several ways; None for the one that is recognised.

    Returns:
        A check per split or annotation file.
    """
    from emo_mm.data.examine import examine

    root = Path(folder)
    if not root.is_dir():
        return [Check(str(root), False, 'no such folder', f'ln -s /path/to/your/data {shlex.quote(str(root))}')]
    return [Check(found.name, found.ok, found.detail, found.fix) for found in examine(root, layout)]


# --- the report -------------------------------------------------------------------------------------------------------
def format_check(check: Check) -> str:
    """Return the line of a check, and under a fault the command that fixes it."""
    line = f'{"ok   " if check.ok else "FAULT"}  {check.name:<14} {check.detail}'
    return line if check.ok else f'{line}\n       fix with:  {check.fix}'


def run_doctor(data: list[str], layout: str | None = None) -> int:
    """Check the installation and the data sets, and print what was found with the command that fixes each fault.

    Args:
        data: Roots of data sets to check.
        layout: Their layout; None for the one that is recognised.

    Returns:
        0 if nothing is at fault, else 1.
    """
    print(f'emo_mm {__version__} at {Path(__file__).parent}, configs in {config_root()}')
    faults = 0
    for check in environment_checks():
        print(format_check(check), flush=True)
        faults += not check.ok
    for folder in data:
        print(f'data in {folder}:')
        for check in check_data(folder, layout):
            print(format_check(check), flush=True)
            faults += not check.ok
    print('no fault found' if not faults else f'{faults} fault{"s" if faults > 1 else ""} found')
    return int(faults > 0)
