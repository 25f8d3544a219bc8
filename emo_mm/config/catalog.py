"""The published models in one table: configs, and the figures that their authors give for them.

Documentation, metafiles and ``emo-mm list`` are made from this table (``tools/documents/make_model_zoo.py``), and the
tests compare it with the configs and recount parameters and multiply-adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from emo_mm.config.names import list_models, task_name
from emo_mm.tasks import TASKS

EMO_README = 'README of zhangzjn/EMO'
EMOV2_README = 'README of zhangzjn/EMOv2'

# Names of the metrics as they are shown.
METRICS = {
    'top1': 'top-1',
    'box_ap': 'box AP',
    'ap50': 'AP50',
    'ap75': 'AP75',
    'ap_s': 'AP small',
    'ap_m': 'AP medium',
    'ap_l': 'AP large',
    'mask_ap': 'mask AP',
    'miou': 'mIoU',
    'aacc': 'aAcc',
    'macc': 'mAcc',
}


@dataclass(frozen=True)
class Family:
    """What the models with one head on one data set share.

    Attributes:
        config: Name of the config, ``{}`` standing for the backbone.
        task: ``det``, ``ins``, ``seg`` or ``cls``.
        head: Name of the detector, segmenter or classifier.
        dataset: Data set of the metrics, and of the training.
        metrics: Names of the published metrics, keys of ``METRICS``, the main one first.
        input_size: Height and width in pixels of the images that the network gets from the config (for RetinaNet, of
            the largest; for segmentation, of the training crops).
        counted_at: Height and width at which a recount gives the published multiply-adds.
        macs_decimals: Decimals of the published multiply-adds in G.
        source: Where the authors publish the figures.
        note: What is to be known of the published figures.
        with_auxiliary: Whether the published parameters include an auxiliary head, which only training uses.
        weights: Name of the published weights of the whole model, ``{}`` standing for the backbone; empty if there are
            none.
        variant: What tells it from the family with the same head, data set and input size, for titles.
    """

    config: str
    task: str
    head: str
    dataset: str
    metrics: tuple[str, ...]
    input_size: tuple[int, int]
    counted_at: tuple[int, int]
    macs_decimals: int
    source: str = EMO_README
    note: str = ''
    with_auxiliary: bool = True
    weights: str = ''
    variant: str = ''


@dataclass(frozen=True)
class ModelEntry:
    """A published model.

    Attributes:
        family: What it shares with other sizes.
        backbone: Name of the backbone.
        params_m: Published parameters in millions.
        macs_g: Published multiply-adds in billions; the papers say FLOPs.
        metrics: Published metrics in percent, by their names in ``METRICS``.
        note: Why a recount differs from the published figures by more than rounding, or what else they need.
    """

    family: Family
    backbone: str
    params_m: float
    macs_g: float
    metrics: Mapping[str, float]
    note: str = ''

    @property
    def name(self) -> str:
        """Name of the config."""
        return self.family.config.format(self.backbone)

    @property
    def config(self) -> str:
        """Path of the config in the repository."""
        return f'configs/{TASKS[self.family.task].folder}/{self.name}.py'

    @property
    def weights(self) -> str | None:
        """Name of the published weights of the whole model; only classifiers have them."""
        return self.family.weights.format(self.backbone) or None

    @property
    def main_metric(self) -> str:
        """The main metric with its name, such as ``box AP 22.0``."""
        key = self.family.metrics[0]
        return f'{METRICS[key]} {self.metrics[key]:.1f}'


@dataclass(frozen=True)
class OwnEntry:
    """A model of ours, which nobody has published and for which no metric is claimed.

    Attributes:
        name: Name of the config.
        head: Name of the detector, segmenter or classifier.
        dataset: Data set of the training.
        input_size: Height and width in pixels of the images that the network gets from the config.
        params_m: Parameters in millions, as counted.
        macs_g: Multiply-adds in billions at that size, as counted.
    """

    name: str
    head: str
    dataset: str
    input_size: tuple[int, int]
    params_m: float
    macs_g: float


def published_as(figure: float, exact: float, decimals: int) -> str:
    """Say how a published figure comes from an exact one.

    Args:
        figure: The published figure.
        exact: The exact value, in the same unit.
        decimals: Decimals of the published figure.

    Returns:
        ``equal`` if it is the exact value rounded, which cutting the decimals gives too; ``rounded`` or ``cut`` if
        only one of them gives it; ``differs`` if neither does.
    """
    scale = 10**decimals
    rounded, cut = round(exact * scale) == round(figure * scale), int(exact * scale) == round(figure * scale)
    return {(True, True): 'equal', (True, False): 'rounded', (False, True): 'cut'}.get((rounded, cut), 'differs')


def format_models_table(task: str | None = None) -> str:
    """Return the configs as a plain text table, with the published figures of those that have any.

    Args:
        task: ``det``, ``ins``, ``seg`` or ``cls`` for the configs of one task.

    Raises:
        UserError: If there is no such task.
    """
    rows = [('name', 'task', 'params (M)', 'MACs (G)', 'published')]
    for name in list_models(task):
        if name in CATALOG:
            entry = CATALOG[name]
            macs = f'{entry.macs_g:.{entry.family.macs_decimals}f}'
            rows.append((name, entry.family.task, f'{entry.params_m:.1f}', macs, entry.main_metric))
        elif name in OWN:
            own = OWN[name]
            rows.append((name, task_name(name), f'{own.params_m:.1f}', f'{own.macs_g:.1f}', 'no: ours'))
        else:
            rows.append((name, task_name(name), '-', '-', '-'))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = ['Parameters, multiply-adds and metrics (in percent) as published by the authors.']
    if any(row[-1] == 'no: ours' for row in rows):
        notes.append('"no: ours" has no published metric; its parameters and multiply-adds are counted.')
    return '\n'.join((*lines, *notes))


# -- The table -------------------------------------------------------------------------------------------------------

_COCO_METRICS = ('box_ap', 'ap50', 'ap75', 'ap_s', 'ap_m', 'ap_l')
_ADE20K_METRICS = ('miou', 'aacc', 'macc')

_CLASSIFIER = Family(
    config='{}_imagenet',
    task='cls',
    head='linear',
    dataset='ImageNet-1K',
    metrics=('top1',),
    input_size=(224, 224),
    counted_at=(224, 224),
    macs_decimals=3,
    weights='{}',
)
_SSDLITE = Family(
    config='ssdlite_{}_coco',
    task='det',
    head='SSDLite',
    dataset='COCO2017',
    metrics=_COCO_METRICS,
    input_size=(320, 320),
    counted_at=(300, 300),
    macs_decimals=1,
    note=(
        'A recount rounds to the published multiply-adds of all three at 300×300, and at 320×320 to that of 1M alone. '
        'Training and testing use 320×320.'
    ),
)
_RETINANET = Family(
    config='retinanet_{}_coco',
    task='det',
    head='RetinaNet',
    dataset='COCO2017',
    metrics=_COCO_METRICS,
    input_size=(800, 1344),
    counted_at=(800, 1333),
    macs_decimals=0,
    note=(
        'A recount rounds to the published multiply-adds of all three at 800×1333. The pipeline pads sides '
        'to multiples of 32, so that the largest images reach the network as 800×1344.'
    ),
)
_SEGMENTER_NOTE = (
    'Parameters include the auxiliary head, which only training uses; the multiply-adds do not include it. The '
    'published multiply-adds are reproduced with a training crop, cut after one decimal like the parameters; in '
    'testing the short side is 512 and the long one follows.'
)
_DEEPLABV3 = Family(
    config='deeplabv3_{}_ade20k',
    task='seg',
    head='DeepLabv3',
    dataset='ADE20K',
    metrics=_ADE20K_METRICS,
    input_size=(512, 512),
    counted_at=(512, 512),
    macs_decimals=1,
    note=_SEGMENTER_NOTE,
)
_PSPNET = Family(
    config='pspnet_{}_ade20k',
    task='seg',
    head='PSPNet',
    dataset='ADE20K',
    metrics=_ADE20K_METRICS,
    input_size=(512, 512),
    counted_at=(512, 512),
    macs_decimals=1,
    note=_SEGMENTER_NOTE,
)
_WITHOUT_ATTENTION = (
    'A recount gives more multiply-adds than published. Without the matrix products of attention, which are many with '
    "the recipe's window of 16, it gives the published figure, cut after one decimal; the published figure of the 2M "
    'model includes them. The model follows the recipe.'
)


_CLASSIFIER_V2 = replace(
    _CLASSIFIER,
    source=EMOV2_README,
    note=(
        'A recount gives 0.004 to 0.007 G multiply-adds less than published: the maps of stage 4 are one window of 7×7 '
        'pixels, where the two kinds of windows are the same, and their attention is computed once. Counted twice it '
        'gives the published figures.'
    ),
)
_DISTILLED = replace(
    _CLASSIFIER_V2,
    config='{}_kd_imagenet',
    weights='{}_224_kd',
    variant='distilled',
    note=f'Distilled from TResNet-L v2 (83.9 top-1), which is not counted. {_CLASSIFIER_V2.note}',
)
_DISTILLED_512 = replace(
    _DISTILLED,
    config='{}_512_imagenet',
    input_size=(512, 512),
    counted_at=(512, 512),
    weights='{}_512_kd',
    note='Distilled from TResNet-L v2 (83.9 top-1), which is not counted.',
)
_SSDLITE_V2 = replace(_SSDLITE, counted_at=(320, 320), source=EMOV2_README, note='')
_SSDLITE_512 = replace(
    _SSDLITE_V2, config='ssdlite_{}_512_coco', input_size=(512, 512), counted_at=(512, 512), note='Cut, not rounded.'
)
_RETINANET_V2 = replace(
    _RETINANET,
    source=EMOV2_README,
    note=(
        'The published multiply-adds are 0.85 to 0.86 of a recount at 800×1333 in all four sizes; at which size the '
        'authors counted is not known. The pipeline pads sides to multiples of 32, so that the largest images reach '
        'the network as 800×1344.'
    ),
)
_MASK_RCNN = replace(
    _RETINANET_V2,
    config='mask-rcnn_{}_coco',
    task='ins',
    head='MaskRCNN',
    metrics=(*_COCO_METRICS, 'mask_ap'),
    note=(
        'Counted with 1000 proposals and 100 masks. The published multiply-adds are less than a recount at 800×1333; '
        'at which size the authors counted is not known.'
    ),
)
_SEGMENTER_V2_NOTE = (
    'Published parameters leave the auxiliary head out, which only training uses, and so does the recount; the '
    'multiply-adds are those of a training crop.'
)
_DEEPLABV3_V2 = replace(_DEEPLABV3, source=EMOV2_README, note=_SEGMENTER_V2_NOTE, with_auxiliary=False)
_PSPNET_V2 = replace(_PSPNET, source=EMOV2_README, note=_SEGMENTER_V2_NOTE, with_auxiliary=False)
_FPN = replace(
    _DEEPLABV3_V2, config='fpn_{}_ade20k', head='FPN', note='The multiply-adds are those of a training crop.'
)
_SEGFORMER = replace(_FPN, config='segformer_{}_ade20k', head='SegFormer')


def _entry(
    family: Family,
    size: str,
    params_m: float,
    macs_g: float,
    *metrics: float,
    note: str = '',
) -> ModelEntry:
    values = dict(zip(family.metrics, metrics, strict=True))
    backbone = 'emov2' if family.source == EMOV2_README else 'emo'
    return ModelEntry(family, f'{backbone}_{size}', params_m, macs_g, values, note)


# Each row: size, params (M), MACs (G), then the metrics of the family.
CATALOG: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        _entry(_CLASSIFIER, '1m', 1.3, 0.261, 71.5),
        _entry(_CLASSIFIER, '2m', 2.3, 0.439, 75.1),
        _entry(_CLASSIFIER, '5m', 5.1, 0.903, 78.4),
        _entry(_CLASSIFIER, '6m', 6.1, 0.961, 79.0),
        _entry(_SSDLITE, '1m', 2.3, 0.6, 22.0, 37.3, 22.0, 2.1, 20.6, 43.2),
        _entry(_SSDLITE, '2m', 3.3, 0.9, 25.2, 42.0, 25.3, 3.3, 25.9, 47.6),
        _entry(
            _SSDLITE, '5m', 6.0, 1.8, 27.9, 45.2, 28.1, 5.2, 30.2, 50.6, note="The authors' training log says 27.8 AP."
        ),
        _entry(_RETINANET, '1m', 10.4, 163, 34.4, 54.2, 36.2, 20.2, 37.1, 46.0),
        _entry(_RETINANET, '2m', 11.5, 167, 36.2, 56.6, 38.1, 21.7, 38.8, 48.1),
        _entry(_RETINANET, '5m', 14.4, 178, 38.9, 59.8, 41.0, 23.8, 42.2, 51.7),
        _entry(_DEEPLABV3, '1m', 5.6, 2.4, 33.5, 75.0, 44.2),
        _entry(_DEEPLABV3, '2m', 6.9, 3.5, 35.3, 75.6, 46.0),
        _entry(_DEEPLABV3, '5m', 10.3, 5.8, 37.8, 77.6, 48.2, note=_WITHOUT_ATTENTION),
        _entry(_PSPNET, '1m', 4.3, 2.1, 33.2, 74.8, 43.4),
        _entry(_PSPNET, '2m', 5.5, 3.1, 34.5, 75.5, 44.9),
        _entry(_PSPNET, '5m', 8.5, 5.3, 38.2, 77.6, 49.0, note=_WITHOUT_ATTENTION),
        _entry(_CLASSIFIER_V2, '1m', 1.4, 0.285, 72.3),
        _entry(_CLASSIFIER_V2, '2m', 2.3, 0.487, 75.8),
        _entry(_CLASSIFIER_V2, '5m', 5.1, 1.035, 79.4),
        _entry(_DISTILLED, '1m', 1.4, 0.285, 73.5),
        _entry(_DISTILLED, '2m', 2.3, 0.487, 76.7),
        _entry(_DISTILLED, '5m', 5.1, 1.035, 80.9),
        _entry(_DISTILLED_512, '5m', 5.1, 5.627, 82.9),
        _entry(_SSDLITE_V2, '1m', 2.4, 0.7, 22.3, 37.5, 22.4, 2.0, 21.3, 43.4),
        _entry(_SSDLITE_V2, '2m', 3.3, 1.2, 26.0, 43.0, 26.5, 3.6, 26.6, 50.2),
        _entry(_SSDLITE_V2, '5m', 6.0, 2.4, 29.6, 47.6, 30.1, 5.5, 32.2, 54.8),
        _entry(_SSDLITE_V2, '20m', 21.2, 9.1, 33.1, 51.9, 33.9, 8.9, 36.8, 57.3),
        _entry(_SSDLITE_512, '1m', 2.4, 2.3, 26.6, 44.4, 27.5, 7.3, 31.4, 43.0),
        _entry(_SSDLITE_512, '2m', 3.3, 4.0, 30.7, 49.8, 31.7, 9.9, 37.1, 47.3),
        _entry(_SSDLITE_512, '5m', 6.0, 8.0, 34.8, 54.7, 36.4, 13.7, 42.0, 52.0),
        _entry(_SSDLITE_512, '20m', 21.2, 30.3, 38.3, 58.4, 40.7, 17.9, 45.2, 54.6),
        _entry(_RETINANET_V2, '1m', 10.5, 142, 36.9, 57.1, 39.0, 22.1, 39.8, 49.5),
        _entry(_RETINANET_V2, '2m', 11.5, 146, 39.3, 60.0, 41.4, 23.9, 43.1, 51.6),
        _entry(_RETINANET_V2, '5m', 14.4, 158, 41.5, 62.7, 44.1, 25.7, 45.5, 55.5),
        _entry(_RETINANET_V2, '20m', 29.8, 220, 43.8, 65.0, 47.1, 28.0, 47.4, 59.0),
        _entry(_MASK_RCNN, '1m', 21.2, 165, 37.1, 59.2, 39.6, 21.8, 39.9, 49.5, 35.0),
        _entry(_MASK_RCNN, '2m', 22.1, 170, 39.5, 61.8, 42.4, 22.9, 43.0, 52.6, 36.9),
        _entry(_MASK_RCNN, '5m', 24.8, 181, 42.3, 64.3, 46.3, 25.8, 45.6, 56.3, 39.0),
        _entry(_MASK_RCNN, '20m', 39.8, 244, 44.2, 66.2, 48.7, 27.4, 47.6, 58.7, 40.6),
        _entry(_DEEPLABV3_V2, '1m', 5.6, 3.3, 34.6, 75.9, 45.5),
        _entry(_DEEPLABV3_V2, '2m', 6.6, 5.0, 36.8, 77.1, 48.6),
        _entry(_DEEPLABV3_V2, '5m', 9.9, 9.1, 39.8, 78.3, 51.5),
        _entry(_DEEPLABV3_V2, '20m', 26.0, 31.6, 43.3, 79.6, 56.0),
        _entry(_PSPNET_V2, '1m', 4.2, 2.9, 33.6, 75.8, 44.8),
        _entry(_PSPNET_V2, '2m', 5.2, 4.6, 35.7, 76.7, 47.0),
        _entry(_PSPNET_V2, '5m', 8.1, 8.6, 39.1, 78.2, 51.0),
        _entry(_PSPNET_V2, '20m', 23.6, 30.9, 43.4, 79.6, 55.7),
        _entry(_FPN, '1m', 5.3, 23.4, 37.1, 78.2, 47.6),
        _entry(
            _FPN,
            '2m',
            6.2,
            25.1,
            39.9,
            79.3,
            51.1,
            note='A recount gives 0.055 G less than published; why is not known.',
        ),
        _entry(_FPN, '5m', 8.9, 29.1, 42.4, 80.8, 53.4, note="The authors' training log says 42.3 mIoU."),
        _entry(_FPN, '20m', 23.9, 51.5, 46.8, 82.2, 58.3),
        _entry(_SEGFORMER, '1m', 1.4, 5.0, 37.0, 77.7, 47.5),
        _entry(_SEGFORMER, '2m', 2.6, 10.3, 40.2, 79.0, 51.1),
        _entry(_SEGFORMER, '5m', 5.3, 14.4, 43.0, 80.5, 53.9),
        _entry(_SEGFORMER, '20m', 20.4, 36.8, 47.3, 82.1, 58.7),
    )
}

# Ours, unpublished: name, head, input, params (M), MACs (G), both counted.
OWN: dict[str, OwnEntry] = {
    name: OwnEntry(name, head, 'COCO2017', (side, side), params_m, macs_g)
    for name, head, side, params_m, macs_g in (
        ('gfl_emo_1m_coco', 'GFL', 320, 1.46, 0.803),
        ('gfl_emo_2m_coco', 'GFL', 416, 2.56, 2.144),
        ('gfl_emo_5m_coco', 'GFL', 640, 5.52, 9.463),
        ('gfl_emov2_1m_coco', 'GFL', 320, 1.56, 0.918),
        ('gfl_emov2_2m_coco', 'GFL', 416, 2.56, 2.783),
        ('gfl_emov2_5m_coco', 'GFL', 640, 5.54, 11.477),
        ('gfl_emov2_20m_coco', 'GFL', 640, 21.67, 39.913),
        ('rtmdet_emo_1m_coco', 'RTMDet', 320, 1.53, 0.934),
        ('rtmdet_emo_2m_coco', 'RTMDet', 416, 2.63, 2.367),
        ('rtmdet_emo_5m_coco', 'RTMDet', 640, 5.73, 11.079),
        ('rtmdet_emov2_1m_coco', 'RTMDet', 320, 1.63, 1.05),
        ('rtmdet_emov2_2m_coco', 'RTMDet', 416, 2.64, 3.005),
        ('rtmdet_emov2_5m_coco', 'RTMDet', 640, 5.75, 13.093),
        ('rtmdet_emov2_20m_coco', 'RTMDet', 640, 22.08, 43.168),
        ('rtmdet-ins_emo_1m_coco', 'RTMDet-Ins', 320, 1.88, 1.37),
        ('rtmdet-ins_emo_2m_coco', 'RTMDet-Ins', 416, 2.97, 3.103),
        ('rtmdet-ins_emo_5m_coco', 'RTMDet-Ins', 640, 6.47, 14.922),
        ('rtmdet-ins_emov2_1m_coco', 'RTMDet-Ins', 320, 1.97, 1.485),
        ('rtmdet-ins_emov2_2m_coco', 'RTMDet-Ins', 416, 2.98, 3.741),
        ('rtmdet-ins_emov2_5m_coco', 'RTMDet-Ins', 640, 6.49, 16.936),
        ('rtmdet-ins_emov2_20m_coco', 'RTMDet-Ins', 640, 23.37, 49.934),
    )
}
