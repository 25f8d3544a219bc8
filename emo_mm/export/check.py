"""The check of a deployed file: its answers in its own runtime beside PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from emo_mm.errors import UserError
from emo_mm.export.graph import Graph
from emo_mm.runtime.images import read_image
from emo_mm.runtime.masks import Masks
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.postprocess import results_of
from emo_mm.runtime.preprocess import Prepared, make_batch, resize_image
from emo_mm.runtime.results import Detections

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
SAME_BOX = 0.9  # intersection over union
_TIE = 1e-4  # of scores

# From an input to the outputs: a file in its runtime.
Run = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Tolerance:
    """What a check lets pass.

    Attributes:
        error: Largest error of an output relative to its largest value, which counts as 1 at least.
        agreement: Least share of boxes, pixels or images that agree.
    """

    error: float
    agreement: float


# Half precision has 11 bits. Quantized networks may be off in single values: what counts is agreement.
TOLERANCES = {
    'float32': Tolerance(1e-3, 0.995),
    'half': Tolerance(0.1, 0.95),
    'int8': Tolerance(float('inf'), 0.75),
}


@dataclass
class Found:
    """How near a file's answers are to PyTorch's.

    Attributes:
        error: Largest absolute difference of an output. For label maps, the largest difference in PyTorch's logits
            between its class and the file's.
        relative: The same, relative to the output's largest value, which counts as 1 at least.
        alike: Boxes, pixels or images that agree.
        total: All of them.
        images: Images that were compared.
        ties: Boxes that do not agree and score like the last one that there was room for.
    """

    error: float = 0.0
    relative: float = 0.0
    alike: int = 0
    total: int = 0
    images: int = 0
    ties: int = 0

    @property
    def agreement(self) -> float:
        """The share that agrees; 1 where there was nothing to find, and nothing was found."""
        return self.alike / self.total if self.total else 1.0

    def add(self, other: Found) -> None:
        """Take a batch into account."""
        self.error = _worst(self.error, other.error)
        self.relative = _worst(self.relative, other.relative)
        self.alike += other.alike
        self.total += other.total
        self.images += other.images
        self.ties += other.ties

    def within(self, tolerance: Tolerance) -> bool:
        """Tell whether a check passes; an error that is not a number does not."""
        return self.relative <= tolerance.error and self.agreement >= tolerance.agreement


def images_in(folder: str | None, count: int, seed: int = 0) -> list[np.ndarray]:
    """Return photographs of a folder, or random images, (H, W, 3) uint8.

    Args:
        folder: The folder; None for random images.
        count: How many at most.
        seed: Of the random images.

    Raises:
        UserError: If the folder has no images, or one cannot be read.
    """
    if folder is None:
        rng = np.random.default_rng(seed)
        # Blocks of several sizes: noise alone is nothing to a network.
        blocks = [rng.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (4, 7, 16, 40)]
        return [resize_image(blocks[i % 4], (320, 256), 'pillow', 'bilinear') for i in range(count)]
    if not Path(folder).is_dir():
        raise UserError(f'--calibration {folder}: there is no such folder')
    paths = sorted(path for path in Path(folder).rglob('*') if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f'--calibration {folder}: the folder has no images ({", ".join(SUFFIXES)})')
    # from all over the folder, which may be sorted by content
    return [read_image(paths[i]) for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]


def input_of(images: Sequence[np.ndarray], size: tuple[int, int], metadata: Metadata) -> np.ndarray:
    """Return the input of a graph for images stretched to a height and width."""
    height, width = size
    return make_batch(_prepared(images, size), (width, height), metadata)


def cases(metadata: Metadata, size: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield numbers of images and sizes to check at; other than the traced ones too, where axes are open.

    Args:
        metadata: The description.
        size: Height and width that the graph was traced at.
    """
    spec = metadata.input
    batches = [spec.batch] if spec.batch else [1, 3]
    heights = [size[0]] * 3 if spec.height else [size[0], size[0] + 37, max(64, size[0] * 3 // 4)]
    widths = [size[1]] * 3 if spec.width else [size[1], max(64, size[1] * 3 // 4), size[1] + 90]
    sizes = list(dict.fromkeys(zip(heights, widths, strict=True)))
    for index in range(max(len(sizes), len(batches))):
        yield batches[index % len(batches)], sizes[index % len(sizes)]


def check(
    run: Run, reference: Graph, images: Sequence[np.ndarray], size: tuple[int, int]
) -> Iterator[tuple[int, tuple[int, int], Found]]:
    """Compare a file with PyTorch, case by case.

    Args:
        run: The file in its runtime.
        reference: The network as it was trained, in PyTorch.
        images: Images; each case takes as many as it needs, in turns.
        size: Height and width that the graph was traced at.

    Yields:
        Number of images at once, height and width, and what was found.
    """
    metadata, place = reference.metadata, 0
    for batch, case_size in cases(metadata, size):
        found = Found()
        rounds = max(1, -(-len(images) // batch)) if metadata.input.batch else 1
        for _ in range(rounds):
            chosen = [images[(place + i) % len(images)] for i in range(batch)]
            place += batch
            found.add(compare(run, reference, chosen, case_size))
        yield batch, case_size, found


@dataclass(frozen=True)
class Answers:
    """What a file and PyTorch give for one batch.

    Attributes:
        ours: Outputs of the file.
        theirs: Outputs of PyTorch.
        batch: The input of both.
        reference: The network in PyTorch.
        images: The images.
        size: Height and width of the input.
    """

    ours: list[np.ndarray]
    theirs: list[np.ndarray]
    batch: np.ndarray
    reference: Graph
    images: Sequence[np.ndarray]
    size: tuple[int, int]


def compare(run: Run, reference: Graph, images: Sequence[np.ndarray], size: tuple[int, int]) -> Found:
    """Compare the answers for one batch.

    Raises:
        UserError: If the outputs have other shapes.
    """
    batch = input_of(images, size, reference.metadata)
    ours = [np.asarray(output) for output in run(batch)]
    with torch.inference_mode():
        theirs = [output.numpy() for output in reference(torch.from_numpy(batch))]
    shapes = [[list(output.shape) for output in outputs] for outputs in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise UserError(f'the outputs have the shapes {shapes[0]}; PyTorch gives {shapes[1]}')
    found = COMPARISONS[reference.metadata.output.kind](Answers(ours, theirs, batch, reference, images, size))
    found.images = len(images)
    return found


def _compare_boxes(answers: Answers) -> Found:
    found = _compare_values(answers)
    found.alike, found.total, found.ties, _ = _matches(answers)
    return found


def _compare_detections(answers: Answers) -> Found:
    """Compare selected boxes, whose order may differ: only matching tells."""
    alike, total, ties, error = _matches(answers)
    return Found(error, error, alike, total, ties=ties)


def _compare_labels(answers: Answers) -> Found:
    with torch.inference_mode():
        logits = answers.reference.logits(torch.from_numpy(answers.batch)).numpy()
    ours, theirs = answers.ours[0], answers.theirs[0]
    chosen = np.take_along_axis(logits, ours[:, None].astype(np.int64), 1)  # N,C,H,W at N,1,H,W
    error = float((logits.max(1, keepdims=True) - chosen).max())
    same = ours == theirs
    return Found(error, error / max(1.0, float(np.abs(logits).max())), int(same.sum()), same.size)


def _compare_classes(answers: Answers) -> Found:
    """Compare logits or probabilities, whose second axis is the classes."""
    found = _compare_values(answers)
    same = answers.ours[0].argmax(1) == answers.theirs[0].argmax(1)
    found.alike, found.total = int(same.sum()), same.size
    return found


def _compare_values(answers: Answers) -> Found:
    found = Found()
    for one, other in zip(answers.ours, answers.theirs, strict=True):
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0)
        found.error = _worst(found.error, float(difference))
        found.relative = _worst(found.relative, float(difference / max(1.0, float(np.abs(other).max(initial=0)))))
    return found


def _matches(answers: Answers) -> tuple[int, int, int, float]:
    """Return how many boxes, of both, have a partner, how many there are, how many tie, and the worst score."""
    metadata, prepared = answers.reference.metadata, _prepared(answers.images, answers.size)
    alike, total, ties, worst = 0, 0, 0, 0.0
    pairs = [results_of(outputs, prepared, answers.size[::-1], metadata) for outputs in (answers.ours, answers.theirs)]
    for one, other in zip(*pairs, strict=True):
        assert isinstance(one, Detections)
        assert isinstance(other, Detections)
        matched, error = match(one, other)
        alike += matched
        total += len(one.labels) + len(other.labels)
        ties += _tied(one, other, metadata)
        worst = _worst(worst, error)
    return alike, total, ties, worst


def _tied(one: Detections, other: Detections, metadata: Metadata) -> int:
    """Return how many boxes have no partner and score like the last one that there was room for.

    Which of equal scores stay is chance, as of a network that has learned nothing yet.
    """
    assert metadata.nms is not None  # detectors have it
    if min(len(one.labels), len(other.labels)) < metadata.nms.max_per_image:
        return 0
    last = max(one.scores[-1], other.scores[-1]) + _TIE
    same = partners(one, other)
    alone = ((one, ~same.any(1)), (other, ~same.any(0)))
    return sum(int((lonely & (found.scores <= last)).sum()) for found, lonely in alone)


# How answers are compared, by what the outputs are.
COMPARISONS: dict[str, Callable[[Answers], Found]] = {
    'boxes': _compare_boxes,
    'detections': _compare_detections,
    'instances': _compare_boxes,
    'masks': _compare_detections,
    'roi_masks': _compare_detections,
    'labels': _compare_labels,
    'logits': _compare_classes,
    'probabilities': _compare_classes,
}


def match(one: Detections, other: Detections) -> tuple[int, float]:
    """Return how many boxes, of both, have a partner, and the largest difference of scores between partners."""
    same = partners(one, other)
    # the nearest score among the partners
    apart = np.where(same, np.abs(one.scores[:, None] - other.scores[None]), np.inf)
    nearest = apart.min(1, initial=np.inf)
    matched = np.isfinite(nearest)
    return int(same.any(1).sum() + same.any(0).sum()), float(nearest[matched].max(initial=0))


def partners(one: Detections, other: Detections) -> np.ndarray:
    """Tell which boxes are partners, (K, L): of the same class, overlapping by ``SAME_BOX``, as do their masks."""
    low = np.maximum(one.boxes[:, None, :2], other.boxes[None, :, :2])
    high = np.minimum(one.boxes[:, None, 2:], other.boxes[None, :, 2:])
    both = (high - low).clip(0).prod(-1)  # K,L
    areas = [(found.boxes[:, 2:] - found.boxes[:, :2]).prod(-1) for found in (one, other)]
    same = one.labels[:, None] == other.labels[None]
    same &= both >= SAME_BOX * (areas[0][:, None] + areas[1][None] - both)
    if one.masks is not None and other.masks is not None:
        same &= _overlaps_of_masks(one.masks, other.masks) >= SAME_BOX
    return same


def _overlaps_of_masks(one: Masks, other: Masks) -> np.ndarray:
    """Return the intersection over union of each mask with each, (K, L); 1 where both are empty."""
    # K,H,W -> K,H·W, as numbers: their products count pixels
    flat = [np.asarray(masks).reshape(len(masks), -1).astype(np.float32) for masks in (one, other)]
    both = flat[0] @ flat[1].T
    union = flat[0].sum(1)[:, None] + flat[1].sum(1)[None] - both
    return np.where(union > 0, both / np.maximum(union, 1), 1)


def _prepared(images: Sequence[np.ndarray], size: tuple[int, int]) -> list[Prepared]:
    width, height = size[1], size[0]
    return [Prepared(resize_image(image, (width, height), 'pillow', 'bilinear'), (width, height)) for image in images]


def _worst(one: float, other: float) -> float:
    """Return the larger number; one that is not a number is the worst."""
    return float(np.maximum(one, other))
