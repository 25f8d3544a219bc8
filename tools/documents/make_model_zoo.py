"""Write docs/model_zoo.md, the metafiles, model-index.yml and the README's table from the catalogue and a recount.

python tools/documents/make_model_zoo.py            write them
python tools/documents/make_model_zoo.py --check    exit with 1 if one of them is not what would be written
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from emo_mm.benchmark.subjects import METAFILE_METRICS
from emo_mm.config.catalog import CATALOG, EMOV2_README, METRICS, OWN, Family, ModelEntry, OwnEntry, published_as
from emo_mm.config.names import task_name
from emo_mm.tasks import TASKS

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

ROOT = Path(__file__).resolve().parents[2]
NOTICE = 'Written by tools/documents/make_model_zoo.py from emo_mm/config/catalog.py; do not edit.'
PAPERS = {
    'EMO': {
        'Title': 'Rethinking Mobile Block for Efficient Attention-based Models',
        'URL': 'https://arxiv.org/abs/2301.01146',
    },
    'EMOv2': {
        'Title': 'EMOv2: Pushing 5M Vision Model Frontier',
        'URL': 'https://arxiv.org/abs/2412.06674',
    },
}
# Names of data sets that the readers of metafiles know.
METAFILE_DATASETS = {'COCO2017': 'COCO', 'ADE20K': 'ADE20K', 'ImageNet-1K': 'ImageNet-1k'}


@dataclass(frozen=True)
class Recount:
    """What the built model of an entry counts.

    Attributes:
        params: Parameters.
        macs: Multiply-adds at the size that gives the published ones.
        attention_macs: The part of ``macs`` in the matrix products of attention.
        input_macs: Multiply-adds at the config's own input size.
        training: How it is trained, in the words of a metafile.
    """

    params: int
    macs: int
    attention_macs: int
    input_macs: int
    training: dict[str, int]


def recount(entry: ModelEntry) -> Recount:
    """Build the model of an entry and count it."""
    import torch

    from emo_mm.benchmark.counting import count
    from emo_mm.config.build import build_model
    from emo_mm.config.names import get_config

    with torch.device('meta'):  # counted by shapes alone
        model = build_model(entry.name)
    if not entry.family.with_auxiliary and model.with_auxiliary_head:
        del model.auxiliary_head
    if entry.family.head == 'MaskRCNN':
        model = _mask_rcnn_network(model)
    published = count(model, torch.zeros(1, 3, *entry.family.counted_at))
    own = count(model, torch.zeros(1, 3, *entry.family.input_size))
    return Recount(
        params=published.params,
        macs=published.macs,
        attention_macs=published.by_operator.get('bmm', 0),
        input_macs=own.macs,
        training=_training(get_config(entry.name)),
    )


def recount_own(entry: OwnEntry) -> tuple[float, float]:
    """Return parameters in millions and multiply-adds in billions of a model that nobody has published."""
    import torch

    from emo_mm.benchmark.counting import count
    from emo_mm.config.build import build_model

    with torch.device('meta'):
        model = build_model(entry.name)
    counted = count(model, torch.zeros(1, 3, *entry.input_size))
    return round(counted.params / 1e6, 2), round(counted.macs / 1e9, 3)


def _mask_rcnn_network(model: Any) -> nn.Module:
    """Return the network of a Mask R-CNN as a module of plain tensors, with 1000 proposals and 100 masks.

    Boxes cannot be found without values, so the heads get maps of the shape that pooling gives.
    """
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model: Any = model

        def forward(self, x: torch.Tensor) -> None:
            self.model.rpn_head(self.model.extract_feat(x))
            self.model.roi_head.bbox_head(x.new_zeros(1000, 256, 7, 7))
            self.model.roi_head.mask_head(x.new_zeros(100, 256, 14, 14))

    return Network()


def _training(cfg: Config) -> dict[str, int]:
    dataset = cfg.train_dataloader.dataset
    repeats = dataset.times if dataset.type == 'RepeatDataset' else 1
    loop = cfg.train_cfg
    length = {'Epochs': loop.max_epochs * repeats} if 'max_epochs' in loop else {'Iterations': loop.max_iters}
    return {**length, 'Batch Size': cfg.auto_scale_lr.base_batch_size}


# -- The page --------------------------------------------------------------------------------------------------------


def model_zoo_page(counts: Mapping[str, Recount], counter: str) -> str:
    """Return docs/model_zoo.md.

    Args:
        counts: The recount of each entry of the catalogue, by name.
        counter: What counted, with its version.
    """
    lines = [
        f'<!-- {NOTICE} -->',
        '# Model zoo',
        '',
        "The published figures are the authors' own, from the source named in each section. The metrics have not been "
        'measured again here.',
        '',
        'The counted figures are those of the models that this package builds from its configs, for one image of the '
        'given height and width. Multiply-adds (MACs; the papers say FLOPs) are the multiplications of convolutions, '
        'linear layers and matrix products, those of attention included, 2 per element of a BatchNorm and 5 per '
        'element of a LayerNorm, as fvcore counts them; biases, activations, pooling, resizing and post-processing '
        'count nothing.',
        '',
        _counter_line(counter),
        '',
        'In brackets, how the published figure comes from the counted one: *equal* (either way), *rounded*, '
        '*cut* (further decimals dropped), or **differs**, with a note. Where rounding and cutting give two figures, '
        'the published parameters are the cut ones, but for one.',
    ]
    for task, title in sorted((row.name, row.title) for row in TASKS.values()):
        lines += ['', f'## {title}']
        for family in _families(task):
            lines += ['', *_family_section(family, counts)]
        lines += _own_section(task)
    return '\n'.join(lines) + '\n'


def _counter_line(counter: str) -> str:
    return f'Counted with {counter}.'


def without_counter(page: str) -> str:
    """Return a page without the line that says what counted: the figures hold for other versions too."""
    return re.sub(r'^Counted with .*\n', '', page, flags=re.MULTILINE)


def _families(task: str) -> list[Family]:
    return list(dict.fromkeys(entry.family for entry in CATALOG.values() if entry.family.task == task))


def _family_section(family: Family, counts: Mapping[str, Recount]) -> list[str]:
    entries = [entry for entry in CATALOG.values() if entry.family == family]
    own_input = family.input_size != family.counted_at
    header = [
        'Config',
        *(METRICS[key] for key in family.metrics),
        'Params (M) published',
        'counted',
        'MACs (G) published',
        f'counted at {_size(family.counted_at)}',
        'of which attention',
        *([f'counted at {_size(family.input_size)}'] if own_input else []),
    ]
    has_weights = any(entry.weights for entry in entries)
    if has_weights:
        header.append('Weights')
    notes = list(dict.fromkeys(entry.note for entry in entries if entry.note))
    rows = []
    for entry in entries:
        counted = counts[entry.name]
        mark = f' ({notes.index(entry.note) + 1})' if entry.note else ''
        rows.append(
            [
                f'[{entry.name}](../{entry.config}){mark}',
                *(f'{entry.metrics[key]:.1f}' for key in family.metrics),
                f'{entry.params_m:.1f}',
                _counted(entry.params_m, counted.params / 1e6, 1),
                f'{entry.macs_g:.{family.macs_decimals}f}',
                _counted(entry.macs_g, counted.macs / 1e9, family.macs_decimals),
                _digits(counted.attention_macs / 1e9),
                *([_digits(counted.input_macs / 1e9)] if own_input else []),
                *([f'`{entry.weights}`'] if has_weights else []),
            ]
        )
    head = f'{family.head[0].upper()}{family.head[1:]}' + (f', {family.variant}' if family.variant else '')
    title = f'{_network(family)}: {head}, {family.dataset}, {_size(family.input_size)}'
    return [
        f'### {title}',
        '',
        ' '.join((f'Published: {family.source}. Metrics in percent.', family.note)).rstrip(),
        '',
        *_markdown_table(header, rows),
        *(['', *(f'{i}. {note}' for i, note in enumerate(notes, 1))] if notes else []),
    ]


def _own_section(task: str) -> list[str]:
    """Return the section of the models of a task that nobody has published."""
    entries = [entry for entry in OWN.values() if task_name(entry.name) == task]
    if not entries:
        return []
    rows = [
        [
            f'[{entry.name}](../configs/{TASKS[task].folder}/{entry.name}.py)',
            entry.head,
            entry.dataset,
            _size(entry.input_size),
            f'{entry.params_m:.2f}',
            f'{entry.macs_g:.3f}',
        ]
        for entry in entries
    ]
    return [
        '',
        '### Ours, unpublished',
        '',
        'Recipes of this package. Nobody has published a metric of theirs, and none is claimed here; parameters and '
        'multiply-adds are counted.',
        '',
        *_markdown_table(['Config', 'Head', 'Data set', 'Input', 'Params (M)', 'MACs (G)'], rows),
    ]


def _counted(figure: float, exact: float, decimals: int) -> str:
    how = published_as(figure, exact, decimals)
    return f'{_digits(exact)} ({f"**{how}**" if how == "differs" else how})'


def _digits(value: float) -> str:
    """Return a figure with three decimals, two from 100 on."""
    return f'{value:.3f}' if value < 100 else f'{value:.2f}'


def _size(size: tuple[int, int], times: str = '×') -> str:
    height, width = size
    return f'{height}{times}{width}'


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    ruler = ['---', *(['---:'] * (len(header) - 1))]
    return [f'| {" | ".join(cells)} |' for cells in (header, ruler, *rows)]


# -- The README's table ----------------------------------------------------------------------------------------------

README_BLOCK = re.compile(r'(<!-- models -->\n).*?(<!-- /models -->)', re.DOTALL)


def readme_table(counts: Mapping[str, Recount]) -> str:
    """Return the short table of the README: one row a config."""
    rows = [
        [
            f'[{name}]({entry.config})',
            entry.family.dataset,
            _size(entry.family.input_size),
            f'{counts[name].params / 1e6:.2f}',
            _digits(counts[name].input_macs / 1e9),
            entry.main_metric,
        ]
        for name, entry in CATALOG.items()
    ]
    header = ['Config', 'Data set', 'Input', 'Params (M)', 'MACs (G)', 'Published by the authors (%)']
    return '\n'.join(_markdown_table(header, rows)) + '\n'


def with_readme_table(readme: str, table: str) -> str:
    """Return a README with the table between its ``<!-- models -->`` marks; as it is if it has none."""
    return README_BLOCK.sub(lambda match: f'{match[1]}{table}{match[2]}', readme)


# -- Metafiles -------------------------------------------------------------------------------------------------------


def metafile(folder: str, counts: Mapping[str, Recount]) -> dict[str, Any]:
    """Return the content of the metafile in a folder of configs, as OpenMMLab writes them."""
    tasks = [task.name for task in TASKS.values() if task.folder == folder]
    families = [family for task in tasks for family in _families(task)]
    first_of_name = {_collection_name(family): family for family in reversed(families)}
    return {
        'Collections': [_collection(family) for family in reversed(first_of_name.values())],
        'Models': [_model(entry, counts[entry.name]) for entry in CATALOG.values() if entry.family.task in tasks],
    }


def _collection_name(family: Family) -> str:
    name = _network(family)
    resolution = '-512' if family.input_size == (512, 512) and family.head == 'SSDLite' else ''
    return name if family.head == 'linear' else f'{name}-{family.head}{resolution}'


def _network(family: Family) -> str:
    return 'EMOv2' if family.source == EMOV2_README else 'EMO'


def _collection(family: Family) -> dict[str, Any]:
    return {
        'Name': _collection_name(family),
        'Metadata': {
            'Training Data': METAFILE_DATASETS[family.dataset],
            'Training Techniques': ['AdamW', 'Weight Decay'],
            'Training Resources': _resources(family),
            'Architecture': [_network(family), 'Inverted Residual Mobile Block']
            + ([] if family.head == 'linear' else [family.head]),
        },
        'Paper': dict(PAPERS[_network(family)]),  # a copy, since YAML would write one object as an alias
    }


def _resources(family: Family) -> str:
    four = _network(family) == 'EMOv2' and family.head not in ('linear', 'SSDLite')
    return '4 GPUs' if four else '8 GPUs'


def _model(entry: ModelEntry, counted: Recount) -> dict[str, Any]:
    family = entry.family
    model: dict[str, Any] = {
        'Name': entry.name,
        'In Collection': _collection_name(family),
        'Config': entry.config,
        'Metadata': {
            'Parameters': counted.params,
            'FLOPs': counted.input_macs,
            'Input Size': _size(family.input_size, 'x'),
            **counted.training,
            'Published Parameters (M)': entry.params_m,
            'Published FLOPs (G)': entry.macs_g,
            'Published FLOPs Input Size': _size(family.counted_at, 'x'),
            'Source': f'results published by the authors ({family.source}), not measured again',
        },
        'Results': _results(entry),
    }
    if entry.weights is not None:
        from emo_mm.weights.registry import PUBLISHED

        model['Weights'] = PUBLISHED[entry.weights].url
        model['Metadata']['Weights By'] = f"the authors, in their own layout; load them as weights='{entry.weights}'"
    return model


def _results(entry: ModelEntry) -> list[dict[str, Any]]:
    """Return the metrics of a model, those of boxes and of masks apart, as OpenMMLab has them."""
    own = TASKS[entry.family.task]
    of_masks = {key: value for key, value in entry.metrics.items() if key == 'mask_ap'}
    of_boxes = {key: value for key, value in entry.metrics.items() if key not in of_masks}
    task = next(row for row in TASKS.values() if row.folder == own.folder)  # that of boxes, where there are masks too
    parts = [(task, of_boxes), *([(own, of_masks)] if of_masks else [])]
    return [
        {
            'Task': row.benchmark,
            'Dataset': METAFILE_DATASETS[entry.family.dataset],
            'Metrics': {METAFILE_METRICS[key]: value for key, value in metrics.items()},
        }
        for row, metrics in parts
    ]


def _yaml(content: dict[str, Any]) -> str:
    return f'# {NOTICE}\n' + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


# -- Files -----------------------------------------------------------------------------------------------------------


def files(counts: Mapping[str, Recount], counter: str, root: Path = ROOT) -> dict[Path, str]:
    """Return the content of every file, by its path.

    Args:
        counts: The recount of each entry of the catalogue, by name.
        counter: What counted, with its version.
        root: The clone.
    """
    folders = sorted({task.folder for task in TASKS.values()})
    metafiles = {f'configs/{folder}/metafile.yml': _yaml(metafile(folder, counts)) for folder in folders}
    contents = {
        'docs/model_zoo.md': model_zoo_page(counts, counter),
        **metafiles,
        'model-index.yml': _yaml({'Import': list(metafiles)}),
    }
    readme = root / 'README.md'
    if readme.is_file():
        contents['README.md'] = with_readme_table(readme.read_text(encoding='utf-8'), readme_table(counts))
    return {root / name: content for name, content in contents.items()}


def stale(contents: Mapping[Path, str]) -> list[Path]:
    """Return the files whose content on disk is another, but for what counted."""
    return [
        path
        for path, content in contents.items()
        if not path.is_file() or without_counter(path.read_text(encoding='utf-8')) != without_counter(content)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Recount all models, then write the files or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(argv)

    import torch

    from emo_mm.benchmark.counting import COUNTER

    counts = {name: recount(entry) for name, entry in CATALOG.items()}
    contents = files(counts, f'`{COUNTER}` of torch {torch.__version__.partition("+")[0]}')
    if args.check:
        for path in stale(contents):
            print(f'{path.relative_to(ROOT)} is stale: run python tools/documents/make_model_zoo.py')
        return 1 if stale(contents) else 0
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding='utf-8')
        print(path.relative_to(ROOT))
    return 0


if __name__ == '__main__':
    sys.exit(main())
