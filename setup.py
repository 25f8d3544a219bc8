"""Build script: metadata, extras and the configs that travel inside the package.

The configs live in ``configs/`` of the clone. A built package carries them in ``emo_mm/.mim``, the folder where MIM and
OpenMMLab's ``get_config`` look; they are copied into the build folder, never into the source tree, so that an editable
installation reads the clone's own.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent

# What goes into emo_mm/.mim beside the package's own modules, but for the tools that serve a clone only.
CARRIED = ('configs', 'tools', 'requirements', 'model-index.yml')
CLONE_ONLY = ('make_env.sh', 'documents')
NOT_CARRIED = shutil.ignore_patterns('__pycache__', '*.pyc', *CLONE_ONLY)

# What training needs, whatever the stack.
# torch 2.4 reads no checkpoint with safe types in the place of NumPy's and MMEngine's own (pairs of type and name).
TRAINING = ('torch>=2.5', 'torchvision>=0.20', 'matplotlib>=3.6', 'jinja2>=3.1')

# The distributions that make up a stack, at the versions pinned in requirements/ and later patch releases of them. None
# needs a compiler: pip builds onedl-mmcv apart from torch, hence without its ops, mmcv-lite is mmcv without them, and
# emo_mm/ops stands in for both.
STACKS = {
    # The last evaluates COCO with the same figures sooner, and mmdet of this stack misses it in a message.
    'onedl': (
        'onedl-mmengine',
        'onedl-mmcv',
        'onedl-mmdetection',
        'onedl-mmsegmentation',
        'onedl-mmpretrain',
        'faster-coco-eval',
    ),
    'classic': ('mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'mmpretrain', 'numpy'),
}

# What lies beside the package in site-packages, so that any process finds the stand-ins for mmcv's ops, and the configs
# that a user's own config inherits.
FINDERS = {
    '_emo_mm_ops.py': (ROOT / 'emo_mm' / 'ops' / 'finder.py').read_text(encoding='utf-8'),
    'emo_mm_ops.pth': 'import _emo_mm_ops\n',
    '_emo_mm_configs.py': (ROOT / 'emo_mm' / 'config' / 'inherit.py').read_text(encoding='utf-8'),
    'emo_mm_configs.pth': 'import _emo_mm_configs\n',
}


def version() -> str:
    """Read the version without importing the package, whose dependencies may be missing at build time."""
    text = (ROOT / 'emo_mm' / 'version.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if not found:
        raise RuntimeError("emo_mm/version.py holds no line __version__ = '...'")
    return found[1]


def pins(*names: str) -> dict[str, str]:
    """Return the exact versions in ``requirements/<name>.txt``, by distribution."""
    lines = [line for name in names for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()]
    return dict(re.findall(r'^([\w.-]+)==([^\s;]+)', '\n'.join(lines), re.MULTILINE))


def exact(*names: str) -> list[str]:
    """Return requirements that take the pinned versions only, of packages several of which would change torch."""
    pinned = pins('common', 'deploy', 'export')
    return [f'{name}=={pinned[name]}' for name in ('torch', *names)]


def compatible(names: tuple[str, ...], pinned: dict[str, str]) -> list[str]:
    """Return requirements that take the pinned version or a later patch release of it."""
    return [f'{name}~={pinned[name]}' for name in names]


class BuildWithConfigs(build_py):
    """Copies the configs and tools into the built package."""

    def run(self) -> None:
        """Build as usual, then add what the package carries."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'emo_mm' / '.mim'
        # A build folder kept from an earlier version must not add its configs to this one.
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in CARRIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=NOT_CARRIED)
            elif source.is_file():
                shutil.copy2(source, target / name)
        for name, text in FINDERS.items():
            (Path(self.build_lib) / name).write_text(text, encoding='utf-8')


class EditableWithFinders(editable_wheel):
    """Gives an editable installation the same finders as a built wheel; setuptools itself adds paths only."""

    def _select_strategy(self, name, tag, build_lib):
        strategy = super()._select_strategy(name, tag, build_lib)
        add_paths = type(strategy).__call__

        class WithFinders(type(strategy)):
            def __call__(self, wheel, files, mapping):
                add_paths(self, wheel, files, mapping)
                for file, text in FINDERS.items():
                    wheel.writestr(file, text)

        strategy.__class__ = WithFinders
        return strategy


setup(
    name='emo-mm',
    version=version(),
    description='EMO, the 1 to 6 M parameter vision backbones, for mmdet, mmseg and mmpretrain',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=find_packages(include=['emo_mm', 'emo_mm.*']),
    package_data={'emo_mm': ['py.typed', '**/*.html', '**/*.json', '**/*.csv', '**/*.yml', '**/*.txt']},
    cmdclass={'build_py': BuildWithConfigs, 'editable_wheel': EditableWithFinders},
    entry_points={'console_scripts': ['emo-mm = emo_mm.cli:main']},
    # What prediction with exported files needs, beside their runtime. Nothing of either OpenMMLab stack, nor torch: a
    # user who has them keeps them, and gets them by an extra otherwise.
    install_requires=['numpy>=1.23', 'pillow>=10.1', 'tqdm>=4.60'],
    extras_require={
        # mmseg imports ftfy and regex; its classic release does not say so.
        **{
            s: [*TRAINING, *compatible(names, pins('common', s, f'mmcv-{s}')), 'ftfy', 'regex']
            for s, names in STACKS.items()
        },
        'hub': ['huggingface_hub>=0.26'],
        # results of many images, and lists of them
        'parquet': ['pyarrow>=15'],
        'stores': ['fsspec>=2024.6'],
        'serve': ['fastapi>=0.115', 'uvicorn>=0.30', 'python-multipart>=0.0.18', 'prometheus-client>=0.20'],
        'runtime': compatible(('onnxruntime',), pins('deploy')),
        'openvino': compatible(('openvino',), pins('deploy')),
        # a program of torch.export is read by the version of torch that wrote it
        'torch': compatible(('torch', 'torchvision'), pins('common')),
        'litert': compatible(('ai-edge-litert',), pins('export')),
        'executorch': exact('executorch'),
        'ncnn': compatible(('ncnn',), pins('export')),
        'mnn': compatible(('MNN',), pins('export')),
        'export': exact('onnx', 'onnxscript', 'onnxruntime'),
        'export-openvino': exact('onnx', 'onnxscript', 'openvino'),
        'export-litert': exact('litert-torch', 'ai-edge-litert', 'transformers'),
        'export-executorch': exact('executorch'),
        'export-ncnn': exact('ncnn', 'pnnx'),
        'export-mnn': exact('onnx', 'onnxscript', 'onnxruntime', 'MNN'),
        'export-coreml': exact('coremltools'),
        'int8': exact('nncf'),
        'track-tensorboard': ['tensorboard>=2.11'],
        'track-wandb': ['wandb>=0.16'],
        'track-mlflow': ['mlflow>=2.9'],
        'dev': compatible(('pytest', 'hypothesis', 'ruff', 'mypy', 'import-linter'), pins('dev')),
        'docs': compatible(('Sphinx', 'furo', 'myst-parser', 'sphinx-copybutton', 'linkify-it-py'), pins('docs')),
    },
)
