"""What users do with a file of each kind, and what a right answer is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing import seeds

Victim = Callable[[Path], None]


class WrongAnswerError(Exception):
    """The answer to a file is wrong, and nobody is told."""


def image_reader(folder: Path) -> Victim:
    """Predict for an image with a deployed segmenter, as ``emo-mm predict`` does."""
    from dataclasses import replace

    from deployed_files import write_onnx
    from descriptions import STRETCH, segmenter

    from emo_mm.errors import UserError
    from emo_mm.runtime import Predictor

    how = replace(STRETCH, scale=(64, 48))
    predictor = Predictor(write_onnx(folder / 'segmenter.onnx', segmenter('labels', preprocessing=how)), threads=1)
    # as `emo-mm predict` does: up to 179 million pixels are meant to be read
    warnings.simplefilter('ignore')
    undamaged = {_read(predictor, data, folder) for data in (*seeds.png_files(),)}

    def read(path: Path) -> None:
        (outcome,) = predictor.stream([path], keep_pixels=True)
        if outcome.error is not None:
            raise UserError(outcome.error)
        if outcome.result.labels.shape != outcome.pixels.shape[:2]:
            raise WrongAnswerError(f'{outcome.result.labels.shape} labels for {outcome.pixels.shape} pixels')
        # PNG files have checksums: who changes pixels must be told, unless he made the checksums fit
        if path.name.startswith('bytes') and path.suffix == '.png' and outcome.pixels.tobytes() not in undamaged:
            raise WrongAnswerError('other pixels')

    return read


def _read(predictor: Any, data: bytes, folder: Path) -> bytes:
    path = folder / 'sound.png'
    path.write_bytes(data)
    (outcome,) = predictor.stream([path], keep_pixels=True)
    return outcome.pixels.tobytes()


def annotation_reader(folder: Path) -> Victim:
    """Check annotations as ``emo-mm train`` does, load all that a training gets of them, and evaluate on them.

    Faults are errors in every second file, and are left out of the others.
    """
    from mmengine.logging import MMLogger
    from mmengine.registry import DATASETS, METRICS, DefaultScope
    from planning import apply_data, check_content, repair_data, use_faster_coco_metric

    from emo_mm.compat import register_toolbox
    from emo_mm.config.names import get_config
    from emo_mm.config.view import read_view
    from emo_mm.data.splits import DataRequest

    MMLogger.get_instance('fuzzing', log_level='ERROR')
    warnings.simplefilter('ignore')
    register_toolbox('mmdet')
    seeds.write_photos(folder / 'images')
    plain = get_config('ssdlite_emo_1m_coco')
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]

    def read(path: Path) -> None:
        cfg = copy.deepcopy(plain)
        request = DataRequest(
            str(folder), train_ann=str(path), val_ann=str(path), train_images='images', val_images='images'
        )
        policy = 'skip' if path.stem[-1] in '02468' else 'error'
        lines = apply_data(cfg, request, tolerant=True)
        cfg.work_dir = str(folder / 'work_dir')
        repair_data(cfg)
        check_content(cfg, True, 'quick', policy)
        use_faster_coco_metric(cfg)
        boxes, predictions = 0, []
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = DATASETS.build(read_view(cfg, 'train').splits['train'].datasets[0].node | {'pipeline': load})
            for i in range(len(dataset)):
                sample = dataset[i]['data_samples']
                truth = sample.gt_instances
                boxes += len(truth.bboxes)  # crowds are ignored instances: not counted, since not trained on
                if not (
                    np.isfinite(truth.bboxes.numpy()).all() and (truth.labels < len(dataset.metainfo['classes'])).all()
                ):
                    raise WrongAnswerError(f'image {i} has the boxes {truth.bboxes} and the labels {truth.labels}')
                found = {'bboxes': truth.bboxes.tensor, 'scores': truth.labels * 0 + 0.9, 'labels': truth.labels}
                predictions.append({'img_id': sample.img_id, 'ori_shape': sample.ori_shape, 'pred_instances': found})
            metric = METRICS.build(cfg.val_evaluator)
            metric.dataset_meta = dataset.metainfo
            metric.process({}, predictions)
            metric.evaluate(len(predictions))
        counted = next(line for line in lines if line.startswith('train: '))
        if policy == 'error' and f' {boxes} box' not in counted:
            raise WrongAnswerError(f'{counted}, and the data set gives {boxes}')

    return read


def checkpoint_reader(folder: Path) -> Victim:
    """Read a checkpoint, load a backbone from it, and read what it says about its config."""
    import torch

    from emo_mm.errors import UserError
    from emo_mm.models import EMO
    from emo_mm.predict.loading import config_in
    from emo_mm.weights import load_weights, read_checkpoint

    torch.set_num_threads(1)
    torch.manual_seed(0)
    expected = EMO(seeds.TINY).state_dict()
    (folder / 'made').mkdir(exist_ok=True)
    seeds.checkpoint_files(folder / 'made')
    sound = read_checkpoint(folder / 'made' / 'epoch_3.pth')

    def read(path: Path) -> None:
        checkpoint = read_checkpoint(path)
        model = EMO(seeds.TINY)
        load_weights(model, checkpoint)
        # bytes that were changed without making the checksums fit
        if path.name.startswith('bytes'):
            for name, tensor in model.state_dict().items():
                if not torch.equal(tensor, expected[name]):
                    raise WrongAnswerError(f'{name} is another')
            told = checkpoint.meta.get('dataset_meta', sound.meta['dataset_meta'])
            if list(told['classes']) != ['cat', 'dog']:
                raise WrongAnswerError(f'dataset_meta is {told}')
        if 'cfg' in checkpoint.meta:
            try:
                config_in(checkpoint.meta, str(path))
            except UserError as error:
                # the seeds' configs hold a backbone only, which prediction refuses
                if 'without test_dataloader' not in str(error) and path.name.startswith('bytes'):
                    raise

    return read


def onnx_reader(folder: Path) -> Victim:
    """Predict with a deployed file, and write the result as ``emo-mm predict`` does."""
    from emo_mm.errors import UserError
    from emo_mm.predict.outputs import Writer
    from emo_mm.predict.run import result_line
    from emo_mm.runtime import Predictor
    from emo_mm.runtime.sources import Item

    image = np.asarray(seeds.photo(97, 61, 0))
    (folder / 'made').mkdir(exist_ok=True)
    seeds.onnx_files(folder / 'made')
    undamaged = []
    for i in range(4):
        undamaged.append(_told(Predictor(folder / 'made' / f'{i}.onnx', threads=1)(image)))

    def read(path: Path) -> None:
        predictor = Predictor(path, threads=1)
        item = Item('photo', 'photo', lambda: image)
        (outcome,) = predictor.stream([item], lambda item: item.read(), keep_pixels=True)
        if outcome.error is not None:
            raise UserError(f'{path}: {outcome.error}')
        writer = Writer(folder / 'out', predictor.metadata, save_json=True, save_images=True, save_masks=True)
        writer.write(outcome, 1)
        writer.close()
        result_line(outcome, predictor.metadata.classes)
        if path.name.startswith('bytes') and _told(outcome.result) not in undamaged:
            raise WrongAnswerError('another result')

    return read


def _told(result: Any) -> str:
    return repr({name: np.asarray(value).tolist() for name, value in vars(result).items() if value is not None})


VICTIMS: dict[str, Callable[[Path], Victim]] = {
    'jpeg': image_reader,
    'png': image_reader,
    'coco': annotation_reader,
    'checkpoint': checkpoint_reader,
    'onnx': onnx_reader,
}
