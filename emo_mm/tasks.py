"""The tasks: one row each, with what the rest of the package asks of a task by its name or its toolbox.

Only the standard library is imported, so that any room may ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TaskName = Literal['det', 'ins', 'seg', 'cls']


@dataclass(frozen=True)
class Pictures:
    """How a toolbox is told to draw predictions; ``{folder}`` stands for the folder of the pictures.

    Attributes:
        hook_type: The hook that draws.
        hook: Its settings.
        visualizer: Settings of the visualizer.
    """

    hook_type: str
    hook: Mapping[str, Any]
    visualizer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What differs between tasks and is no function.

    Attributes:
        name: Short name: value of ``--task``, ``task`` in descriptions of deployed files.
        scope: Toolbox that trains it, which is also the ``default_scope`` of its configs.
        folder: Folder of its configs.
        heads: What the names of its configs begin with, where it shares the folder with another task.
        marks: Dotted keys of a model, of which those of its models have one, where it shares the toolbox with another
            task.
        noun: For messages: "detection".
        model: For messages: "detector".
        title: Heading in lists of models.
        benchmark: The task's name in OpenMMLab's metafiles.
        demo: Config of its demonstration.
        demo_metric: Metric that the demonstration prints, as the toolbox logs it.
        useless: Value of it below which a model finds next to nothing; None where that depends on the classes.
        collate: Function by which the toolbox's loaders put batches together.
        test_pictures: How the toolbox is told to draw the predictions of a test.
        submission: Settings of the evaluator that writes what a test server takes; None where there is none.
        metrics: Metrics to draw over a training, as the toolbox logs them.
        metric_unit: What the metrics are in.
        report: How its predictions are recorded, analysed and drawn, as ``module:object`` of a ``TaskReport``.
        network: ``module:callable`` that makes of its models the part that runs on tensors.
        output_kinds: What its deployed files may give, as ``OutputSpec.kind``.
        finds_boxes: Whether its models find boxes, which are selected by NMS.
        finds_outlines: Whether its models find the pixels of each object, which its data must outline.
        gives_masks: Whether its models give label maps or the pixels of objects, which can be saved as masks.
        divisor_key: Where the data preprocessor of its configs says what sides of test images are padded to multiples
            of: keys from the outside in.
        truth: Where its data samples hold the truth that a loss needs: names of attributes, with dots between them.
        loss_batch: Split whose batch size the loss over the validation images is computed with: that of the training
            where a loss is divided by what its batch holds, as that of a detector by the boxes.
        class_counts: Function that counts the classes of training data whose rare ones may weigh more in the loss, as
            ``module:function``; None where the losses have no such weights.
        agreement: What of two answers agrees, for messages: "boxes match".
        weighted_losses: Losses of the toolbox that weight classes wrongly, and what takes their place where they do.
    """

    name: TaskName
    scope: str
    folder: str
    noun: str
    model: str
    title: str
    benchmark: str
    demo: str
    demo_metric: str
    useless: float | None
    collate: str
    test_pictures: Pictures
    submission: Mapping[str, Any] | None
    metrics: tuple[str, ...]
    metric_unit: str
    report: str
    network: str
    output_kinds: tuple[str, ...]
    finds_boxes: bool
    gives_masks: bool
    divisor_key: tuple[str, ...]
    truth: str
    loss_batch: Literal['train', 'val']
    class_counts: str | None
    agreement: str
    weighted_losses: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    finds_outlines: bool = False


_ROWS = (
    Task(
        name='det',
        scope='mmdet',
        folder='det',
        noun='detection',
        model='detector',
        title='Detection',
        benchmark='Object Detection',
        demo='ssdlite_emo_1m_demo',
        demo_metric='coco/bbox_mAP_50',
        useless=0.1,
        collate='pseudo_collate',
        test_pictures=Pictures('DetVisualizationHook', {'draw': True, 'test_out_dir': '{folder}'}),
        submission={'outfile_prefix': '{folder}/results'},
        metrics=('coco/bbox_mAP', 'coco/bbox_mAP_50'),
        metric_unit='average precision (0 to 1)',
        report='emo_mm.engine.reports.detection:DETECTION',
        network='emo_mm.predict.network:DetectorNetwork',
        output_kinds=('boxes', 'detections'),
        finds_boxes=True,
        gives_masks=False,
        divisor_key=('pad_size_divisor',),
        truth='gt_instances.bboxes',
        loss_batch='train',
        class_counts=None,
        agreement='boxes match',
    ),
    Task(
        name='ins',
        scope='mmdet',
        folder='det',
        heads=('mask-rcnn', 'rtmdet-ins'),
        marks=('roi_head.mask_head', 'bbox_head.loss_mask', 'finds_outlines'),
        noun='instance segmentation',
        model='instance segmenter',
        title='Instance segmentation',
        benchmark='Instance Segmentation',
        demo='rtmdet-ins_emo_1m_demo',
        demo_metric='coco/segm_mAP_50',
        useless=0.1,
        collate='pseudo_collate',
        test_pictures=Pictures('DetVisualizationHook', {'draw': True, 'test_out_dir': '{folder}'}),
        submission={'outfile_prefix': '{folder}/results'},
        metrics=('coco/segm_mAP', 'coco/segm_mAP_50', 'coco/bbox_mAP'),
        metric_unit='average precision (0 to 1)',
        report='emo_mm.engine.reports.instances:INSTANCES',
        network='emo_mm.predict.instances:instance_network',
        output_kinds=('instances', 'masks', 'roi_masks'),
        finds_boxes=True,
        finds_outlines=True,
        gives_masks=True,
        divisor_key=('pad_size_divisor',),
        truth='gt_instances.bboxes',
        loss_batch='train',
        class_counts=None,
        agreement='objects match',
    ),
    Task(
        name='seg',
        scope='mmseg',
        folder='seg',
        noun='segmentation',
        model='segmenter',
        title='Segmentation',
        benchmark='Semantic Segmentation',
        demo='deeplabv3_emo_1m_demo',
        demo_metric='mIoU',
        useless=None,
        collate='pseudo_collate',
        test_pictures=Pictures('SegVisualizationHook', {'draw': True, 'interval': 1}, {'save_dir': '{folder}'}),
        submission={'output_dir': '{folder}'},
        metrics=('mIoU', 'mAcc'),
        metric_unit='per cent',
        report='emo_mm.engine.reports.segmentation:SEGMENTATION',
        network='emo_mm.predict.network:SegmenterNetwork',
        output_kinds=('labels', 'logits'),
        finds_boxes=False,
        gives_masks=True,
        divisor_key=('test_cfg', 'size_divisor'),
        truth='gt_sem_seg',
        loss_batch='val',
        class_counts='emo_mm.data.classes:pixel_counts',
        agreement='pixels have the same class',
        weighted_losses={'CrossEntropyLoss': 'emo_mm.WeightedCrossEntropyLoss'},
    ),
    Task(
        name='cls',
        scope='mmpretrain',
        folder='cls',
        noun='classification',
        model='classifier',
        title='Classification',
        benchmark='Image Classification',
        demo='emo_1m_demo',
        demo_metric='accuracy/top1',
        useless=None,
        collate='default_collate',
        test_pictures=Pictures('VisualizationHook', {'enable': True, 'interval': 1, 'out_dir': '{folder}'}),
        submission=None,
        metrics=('accuracy/top1', 'accuracy/top5'),
        metric_unit='per cent',
        report='emo_mm.engine.reports.classification:CLASSIFICATION',
        network='emo_mm.predict.network:ClassifierNetwork',
        output_kinds=('probabilities',),
        finds_boxes=False,
        gives_masks=False,
        divisor_key=('pad_size_divisor',),
        truth='gt_label',
        loss_batch='val',
        class_counts='emo_mm.data.classes:label_counts',
        agreement='images have the same best class',
    ),
)
TASKS: dict[str, Task] = {row.name: row for row in _ROWS}
TASKS_OF_SCOPE: dict[str, tuple[Task, ...]] = {
    scope: tuple(row for row in _ROWS if row.scope == scope) for scope in dict.fromkeys(row.scope for row in _ROWS)
}


def task_of_model(scope: str, model: Any) -> Task:
    """Return the row of the task of a toolbox's model.

    Args:
        scope: A key of ``TASKS_OF_SCOPE``.
        model: The model in a config; anything else has no marks.
    """
    rows = TASKS_OF_SCOPE[scope]
    marked = (row for row in rows if any(_has(model, mark) for mark in row.marks))
    return next(marked, None) or next(row for row in rows if not row.marks)


def task_of_config(folder: str, name: str) -> Task | None:
    """Return the row of the task that a config of ours has by its place and name; None if there is none.

    Args:
        folder: Name of its folder.
        name: Name of the config.
    """
    rows = [row for row in _ROWS if row.folder == folder]
    named = (row for row in rows if row.heads and name.startswith(row.heads))
    return next(named, None) or next((row for row in rows if not row.heads), None)


def nouns_of(scope: str) -> str:
    """Return what a toolbox is for, in words: "detection and instance segmentation"."""
    return ' and '.join(row.noun for row in TASKS_OF_SCOPE[scope])


def _has(node: Any, mark: str) -> bool:
    for key in mark.split('.'):
        if not isinstance(node, Mapping) or not node.get(key):
            return False
        node = node[key]
    return True
