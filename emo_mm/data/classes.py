"""How often each class occurs in the training data, as the toolbox itself reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_mm.compat import quieten_coco_reader
from emo_mm.config.edits import Part
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView
from emo_mm.data.training_boxes import even_choice
from emo_mm.errors import UserError

MOST_MASKS = 1000  # masks to read; more change the shares little


def image_classes(view: ConfigView, part: Part) -> list[set[int]]:
    """Return the labels that each image of a data set has.

    Args:
        view: The config.
        part: The data set, without wrappers.

    Raises:
        UserError: If the type of the data set cannot tell.
    """
    dataset = _built(view, {**part.node, 'pipeline': []})
    try:
        return [set(dataset.get_cat_ids(index)) for index in range(len(dataset))]
    except (NotImplementedError, AttributeError):
        raise UserError(f'{view.name}: a {type(dataset).__name__} does not tell which classes an image has') from None


def label_counts(view: ConfigView, part: Part, classes: int) -> NDArray[np.int64]:
    """Return the number of images with each label of a data set for classification."""
    labels = [label for found in image_classes(view, part) for label in found]
    return np.bincount(labels, minlength=classes)[:classes]


def pixel_counts(view: ConfigView, part: Part, classes: int) -> NDArray[np.int64]:
    """Return the number of pixels of each label in the masks of a data set, of many masks in an even choice."""
    loading = [step for step in part.node.get('pipeline') or () if _reads_masks(type_name(step))]
    dataset = _built(view, {**part.node, 'pipeline': loading or [dict(type='LoadAnnotations')]})
    counts = np.zeros(256, dtype=np.int64)
    for index in even_choice(len(dataset), MOST_MASKS):
        counts += np.bincount(dataset[int(index)]['gt_seg_map'].ravel(), minlength=256)[:256]
    return counts[:classes]


def _reads_masks(kind: str) -> bool:
    """Tell whether a step of a pipeline reads masks, by its name; the images are not needed to count labels."""
    return kind.startswith('Load') and 'Image' not in kind


def _built(view: ConfigView, node: dict[str, Any]) -> Any:
    """Return a data set that the toolbox built, with its list read."""
    from mmengine.registry import DATASETS

    quieten_coco_reader()
    with DATASETS.switch_scope_and_registry(view.task.scope) as registry:
        dataset = registry.build(node)
    dataset.full_init()
    return dataset
