"""What a config says about prediction: preprocessing, selection of boxes, classes. Read here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emo_mm.config.parts import dataset_classes, type_name
from emo_mm.config.view import read_view, task_of
from emo_mm.errors import UserError
from emo_mm.runtime.metadata import NMS, MaskSpec, Preprocessing

if TYPE_CHECKING:
    from mmengine.config import Config

# Transforms of a test pipeline that leave the pixels alone.
_NEUTRAL = {'LoadAnnotations', 'PackDetInputs', 'PackSegInputs', 'PackInputs'}


def preprocessing_of(cfg: Config) -> Preprocessing:
    """Return how the test pipeline and the data preprocessor of a config make the network's input of a photograph.

    Raises:
        UserError: If they do what :class:`~emo_mm.runtime.metadata.Preprocessing` has no words for.
    """
    where = cfg.filename or 'config'
    datasets = [part.node for part in read_view(cfg, 'test').splits['test'].datasets]
    if not datasets:
        raise UserError(f'{where} has no test_dataloader, whose pipeline says how images are resized')
    steps: dict[str, Any] = {}
    for transform in datasets[0].get('pipeline', []):
        for key, value in _step(dict(transform), where).items():
            if key in steps or (key == 'resize' and 'crop' in steps):
                raise UserError(f'{where}: the test pipeline has {type_name(transform)} where it cannot be followed')
            steps[key] = value
    resize = {'resize': 'none', 'scale': (0, 0), 'backend': 'cv2', 'interpolation': 'bilinear'}
    resize |= steps.pop('resize', {})
    try:
        return Preprocessing(**resize, crop=steps.pop('crop', None), **_normalization(cfg, where))  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f'{where}: {error}') from None


def nms_of(cfg: Config) -> NMS | None:
    """Return how the detector of a config selects boxes, or None for other models.

    Raises:
        UserError: If it does so in another way than by NMS.
    """
    where = cfg.filename or 'config'
    if not task_of(cfg).finds_boxes:
        return None
    test = cfg.model.get('test_cfg') or {}
    test = test.get('rcnn', test)  # of two stages, the last one selects what is found
    nms = dict(test.get('nms') or {})
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}  # the last decides about memory only
    if 'max_per_img' not in test or nms.get('type') != 'nms' or not set(nms) <= known:
        raise UserError(
            f'{where}: model.test_cfg is {dict(test)}; prediction knows detectors with max_per_img and '
            "nms=dict(type='nms', iou_threshold=...)"
        )
    nms_pre = test.get('nms_pre', -1)
    try:
        return NMS(
            score_threshold=float(test.get('score_thr', 0)),
            iou_threshold=float(nms['iou_threshold']),
            nms_pre=nms_pre if nms_pre > 0 else None,
            max_per_image=test['max_per_img'],
            class_agnostic=nms.get('class_agnostic', False),
            min_size=float(test.get('min_bbox_size', -1)),
        )
    except (KeyError, ValueError) as error:
        raise UserError(f'{where}: model.test_cfg: {error}') from None


def mask_spec_of(cfg: Config, channels: int | None) -> MaskSpec | None:
    """Return how masks of objects are made, or None for models that find none.

    Args:
        cfg: The config.
        channels: Channels between the layers that the model's kernels are; None if it has none.

    Raises:
        UserError: If the threshold is none, as of masks that are left soft.
    """
    if not task_of(cfg).finds_outlines:
        return None
    test = cfg.model.get('test_cfg') or {}
    test = test.get('rcnn', test)
    try:
        return MaskSpec(float(test.get('mask_thr_binary', 0.5)), channels)
    except ValueError as error:
        raise UserError(f'{cfg.filename or "config"}: model.test_cfg: {error}') from None


def classes_of(
    cfg: Config, meta: Mapping[str, Any] | None = None
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Return the names of the classes and their colours (none if there are none for each).

    Args:
        cfg: The config, whose toolbox is registered.
        meta: ``meta`` of the checkpoint, which knows the classes that the model was trained for.

    Raises:
        UserError: If neither knows the classes, or their number is not that of the model.
    """
    scope, where = task_of(cfg).scope, cfg.filename or 'config'
    trained = (meta or {}).get('dataset_meta') or {}
    trained = {str(key).lower(): value for key, value in trained.items()}  # MMEngine once wrote CLASSES
    datasets = [part.node for part in read_view(cfg, 'test').splits['test'].datasets]
    own = dataset_classes(datasets[0], scope) if datasets else None
    classes = tuple(map(str, trained.get('classes') or own or ()))
    count = _class_count(cfg)
    if not classes:
        if count is None:
            raise UserError(f'{where}: neither the checkpoint nor the config knows the classes')
        classes = tuple(map(str, range(count)))
    if count is not None and count != len(classes):
        raise UserError(f'{where}: the model has {count} classes and the data set names {len(classes)}')
    palette = trained.get('palette')
    if palette is None and datasets and classes == own:
        palette = _declared_palette(datasets[0], scope)
    return classes, _colours(palette, len(classes))


def _step(transform: dict[str, Any], where: str) -> dict[str, Any]:
    """Return what a transform contributes: ``resize`` with the fields of that name, ``crop``, or nothing."""
    name = type_name(transform)
    options = {key: value for key, value in transform.items() if key != 'type'}
    if name in _NEUTRAL:
        return {}
    if name in ('LoadImageFromFile', 'LoadCachedImage'):
        _only(options, {'backend_args', 'file_client_args', 'ignore_empty', 'cache_dir', 'cache_limit'}, name, where)
        return {}
    if name == 'Resize':
        _only(options, {'scale', 'keep_ratio', 'backend', 'interpolation', 'clip_object_border'}, name, where)
        kind = 'keep_ratio' if options.get('keep_ratio') else 'stretch'
        return {'resize': {'resize': kind, 'scale': _pair(options['scale'])} | _interpolation(options)}
    if name == 'ResizeEdge' and options.get('edge', 'short') == 'short':
        _only(options, {'scale', 'edge', 'backend', 'interpolation'}, name, where)
        return {'resize': {'resize': 'short_edge', 'scale': _pair(options['scale'])} | _interpolation(options)}
    if name == 'CenterCrop':
        _only(options, {'crop_size', 'clip_object_border'}, name, where)
        return {'crop': _pair(options['crop_size'])}
    raise UserError(
        f'{where}: the test pipeline has {name}({", ".join(f"{k}={v}" for k, v in options.items())}); prediction knows '
        "Resize, ResizeEdge(edge='short') and CenterCrop"
    )


def _only(options: Mapping[str, Any], known: set[str], name: str, where: str) -> None:
    unknown = sorted(set(options) - known)
    if unknown:
        raise UserError(f'{where}: prediction does not know {", ".join(unknown)} of {name} in the test pipeline')


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return width and height."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _interpolation(options: Mapping[str, Any]) -> dict[str, str]:
    return {
        'backend': options.get('backend') or 'cv2',
        'interpolation': options.get('interpolation', 'bilinear'),
    }


def _normalization(cfg: Config, where: str) -> dict[str, Any]:
    """Return mean, standard deviation and padding, which the three toolboxes name differently."""
    model = cfg.model
    part = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if not (part.get('bgr_to_rgb') or part.get('to_rgb')):
        raise UserError(f'{where}: data_preprocessor leaves the colours as blue, green, red; prediction gives RGB only')
    testing = part.get('test_cfg') or {}  # mmseg pads in testing only if told so here
    height_width = testing.get('size')
    divisor: Any = part
    for key in task_of(cfg).divisor_key:
        divisor = (divisor or {}).get(key)
    return {
        'mean': tuple(map(float, part.get('mean') or (0, 0, 0))),
        'std': tuple(map(float, part.get('std') or (1, 1, 1))),
        'pad_divisor': divisor or 1,
        'pad_size': tuple(height_width[::-1]) if height_width else None,
        'pad_value': float(part.get('pad_value', part.get('pad_val', 0))),
    }


def _class_count(cfg: Config) -> int | None:
    """Return the number of classes of the head that predicts."""
    parts = (cfg.model, cfg.model.get('roi_head') or {})
    for part in (parent.get(key) for parent in parts for key in ('bbox_head', 'decode_head', 'head')):
        if isinstance(part, Mapping) and part.get('num_classes') is not None:
            return int(part['num_classes'])
    return None


def _declared_palette(dataset: dict[str, Any], scope: str) -> Any:
    """Return the palette of a data set: from its config, or the one that its type declares."""
    from mmengine.registry import DATASETS

    declared = dataset.get('metainfo') or {}
    if 'classes' in declared:
        return declared.get('palette')
    kind = dataset['type']
    kind = DATASETS.get(kind if '.' in kind else f'{scope}.{kind}') if isinstance(kind, str) else kind
    return getattr(kind, 'METAINFO', {}).get('palette')


def _colours(palette: Any, count: int) -> tuple[tuple[int, int, int], ...]:
    if not isinstance(palette, (list, tuple)) or len(palette) != count:
        return ()
    return tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
