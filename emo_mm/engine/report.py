"""What a training leaves beside its checkpoints: metrics as JSON, curves, and a sheet of predictions."""

from __future__ import annotations

import pkgutil
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process

from emo_mm.engine.resume.checkpoints import POINTER
from emo_mm.files import write_json
from emo_mm.report.curves import plot_curves, read_scalars
from emo_mm.report.sheets import (
    Boxes,
    classification_sheet,
    confusion_matrix_figure,
    detection_sheet,
    segmentation_sheet,
)
from emo_mm.runtime.colours import class_colours
from emo_mm.runtime.images import read_image
from emo_mm.tasks import TASK_OF_SCOPE
from emo_mm.version import __version__
from emo_mm.weights import load_model

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

SHEET_IMAGES = 12


def write_report(runner: Runner, model: BaseModel, seconds: float) -> dict[str, Any]:
    """Write ``metrics.json``, ``curves.png`` and ``predictions.png`` (and ``confusion.png``) to the work directory.

    The pictures show the best checkpoint, or the last one where none was marked best.

    Args:
        runner: The runner after training.
        model: Its model, without a data-parallel wrapper.
        seconds: How long the training took.

    Returns:
        What ``metrics.json`` holds.
    """
    if not is_main_process():
        return {}
    work_dir = Path(runner.work_dir)
    task = TASK_OF_SCOPE[runner.cfg.default_scope]
    scalars = read_scalars(work_dir)
    checkpoint = best_checkpoint(work_dir)
    metrics = {
        'config': Path(runner.cfg.filename).stem,
        'checkpoint': checkpoint.name if checkpoint else None,
        'best_score': _plain(runner.message_hub.runtime_info.get('best_score')),
        'last': {name: series.values[-1].item() for name, series in scalars.val.items()},
        'history': {
            name: {'step': series.steps.tolist(), 'value': series.values.tolist()}
            for name, series in scalars.val.items()
        },
        'steps_are': 'epochs' if scalars.val_by_epoch else 'iterations',
        'seconds': round(seconds, 1),
        'threads': torch.get_num_threads(),
        'device': torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'cpu',
        'versions': {'emo_mm': __version__, 'torch': torch.__version__},
    }
    write_json(work_dir / 'metrics.json', metrics)
    plot_curves(work_dir, work_dir / 'curves.png', task.name)
    if runner.val_loop is not None:
        if checkpoint is not None:
            # Not through the runner: after a resumption its EMAHook would give back the weights that are not averaged.
            load_model(model, checkpoint)
        pkgutil.resolve_name(task.pictures)(runner, model, work_dir)
    runner.logger.info(f'metrics, curves and pictures are in {work_dir}')
    return metrics


def best_checkpoint(work_dir: Path) -> Path | None:
    """Return the best checkpoint of a work directory, the last one where none is marked, None where there is none."""
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if best:
        return best[-1]
    pointer = work_dir / POINTER
    last = work_dir / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    return last if last is not None and last.is_file() else None


def _predict(runner: Runner, model: BaseModel, indices: list[int]) -> list[Any]:
    """Return the data samples of some validation images, with truth and prediction, one at a time."""
    model.eval()
    dataset = runner.val_dataloader.dataset
    with torch.no_grad():
        return [model.val_step(pseudo_collate([dataset[i]]))[0] for i in indices]


def _spread(runner: Runner, count: int) -> list[int]:
    """Return the indices of ``count`` validation images, evenly spread."""
    size = len(runner.val_dataloader.dataset)
    return np.linspace(0, size - 1, min(count, size)).round().astype(int).tolist()


def draw_detections(runner: Runner, model: BaseModel, work_dir: Path) -> None:
    """Write validation images with their true and predicted boxes to ``predictions.png``.

    Args:
        runner: The runner after training.
        model: The model to predict with.
        work_dir: Folder of the picture.
    """
    dataset = runner.val_dataloader.dataset
    indices = _spread(runner, SHEET_IMAGES)
    samples = _predict(runner, model, indices)
    truths = []
    for i in indices:
        instances = [inst for inst in dataset.get_data_info(i)['instances'] if not inst.get('ignore_flag')]
        truths.append(
            Boxes(
                np.array([inst['bbox'] for inst in instances], dtype=np.float32).reshape(-1, 4),
                np.array([inst['bbox_label'] for inst in instances], dtype=np.int64),
            )
        )
    found = [sample.pred_instances.cpu().numpy() for sample in samples]
    detection_sheet(
        [read_image(sample.img_path) for sample in samples],
        truths,
        [Boxes(boxes.bboxes, boxes.labels, boxes.scores) for boxes in found],
        dataset.metainfo['classes'],
        work_dir / 'predictions.png',
        columns=3,
        title=work_dir.name,
    )


def draw_masks(runner: Runner, model: BaseModel, work_dir: Path) -> None:
    """Write validation images with their true and predicted masks to ``predictions.png``.

    Args:
        runner: As for :func:`draw_detections`.
        model: Likewise.
        work_dir: Likewise.
    """
    samples = _predict(runner, model, _spread(runner, SHEET_IMAGES))
    meta = runner.val_dataloader.dataset.metainfo
    segmentation_sheet(
        [read_image(sample.img_path) for sample in samples],
        [sample.gt_sem_seg.data.squeeze(0).cpu().numpy() for sample in samples],  # 1,H,W -> H,W
        [sample.pred_sem_seg.data.squeeze(0).cpu().numpy() for sample in samples],  # 1,H,W -> H,W
        meta['classes'],
        meta.get('palette') or class_colours(len(meta['classes'])),
        work_dir / 'predictions.png',
        columns=2,
        title=work_dir.name,
    )


def draw_labels(runner: Runner, model: BaseModel, work_dir: Path) -> None:
    """Write validation images with their predicted classes to ``predictions.png``, and ``confusion.png``.

    Args:
        runner: As for :func:`draw_detections`.
        model: Likewise.
        work_dir: Likewise.
    """
    dataset = runner.val_dataloader.dataset
    classes = dataset.metainfo['classes']
    samples = _predict(runner, model, _spread(runner, 3 * SHEET_IMAGES))
    classification_sheet(
        [read_image(sample.img_path) for sample in samples],
        [int(sample.gt_label[0]) for sample in samples],
        [int(sample.pred_label[0]) for sample in samples],
        [float(sample.pred_score.max()) for sample in samples],
        classes,
        work_dir / 'predictions.png',
        title=work_dir.name,
    )
    if len(classes) > 50:
        return  # no matrix of a thousand classes can be read
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    with torch.no_grad():
        for batch in runner.val_dataloader:
            for sample in model.val_step(batch):
                matrix[int(sample.gt_label[0]), int(sample.pred_label[0])] += 1
    confusion_matrix_figure(matrix, classes, work_dir / 'confusion.png')


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, 'item') else value
