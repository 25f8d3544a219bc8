"""A classifier that also learns from the answers of a larger one, its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from emo_mm.errors import UserError
from emo_mm.registry import INITIALIZERS, MODELS


@MODELS.register_module()
class DistilledClassifier(ImageClassifier):
    """An ``ImageClassifier`` whose loss has one more term: how far its answers are from those of a frozen teacher.

    The term is ``distill_weight · T² · KL(softmax(t / T) ‖ softmax(s / T))``, the mean over the images, for logits t of
    the teacher and s of this network, and the temperature T.

    The teacher is built when training starts, and only then: testing, prediction and export need neither it nor its
    weights. It is no part of the network: its parameters are not counted, trained, averaged, synchronised or saved.

    Args:
        backbone: Config of the backbone.
        head: Config of the head.
        teacher: Config of the teacher, as ``model`` of an mmpretrain config. Its ``data_preprocessor`` says what images
            it wants; without one it gets those that this network gets.
        teacher_checkpoint: Weights of the whole teacher: a path, an address, or the name of published weights. None if
            ``teacher`` itself says where they are, as timm's ``pretrained`` and ``checkpoint_path`` do.
        distill_weight: Weight of the term.
        temperature: Temperature T of both softmaxes.
        neck: Config of the neck.
        train_cfg: As of ``ImageClassifier``: the augmentation of batches, which the teacher sees too.
        data_preprocessor: Config of what images are normalised by.
        init_cfg: MMEngine's initialisation.

    Raises:
        ValueError: If ``distill_weight`` is below 0 or ``temperature`` is not above 0.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        head: Mapping[str, Any],
        teacher: Mapping[str, Any],
        teacher_checkpoint: str | None = None,
        distill_weight: float = 5.0,
        temperature: float = 1.0,
        neck: Mapping[str, Any] | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        if distill_weight < 0 or temperature <= 0:
            raise ValueError(
                f'distill_weight is {distill_weight} and temperature {temperature}; they must be at least 0 and above 0'
            )
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.teacher = _Teacher(teacher, teacher_checkpoint)
        self.distill_weight = distill_weight
        self.temperature = temperature

    def init_weights(self) -> None:
        """Initialise the network, and make the teacher: what is wrong with it shows before the training begins."""
        super().init_weights()
        self.teacher.make()

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Return the losses of the head, and ``loss_distill``, for normalised images of shape (N, 3, H, W)."""
        feats = self.extract_feat(inputs)
        losses = self.head.loss(feats, data_samples)
        taught = self.teacher.logits(inputs, self.data_preprocessor)
        losses['loss_distill'] = self.distill_weight * soft_label_loss(self.head(feats), taught, self.temperature)
        return losses


def soft_label_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(softmax(taught / T) ‖ softmax(logits / T)), the mean over the images, in float32.

    Args:
        logits: Answers, (N, classes).
        taught: Answers of the teacher, of the same shape.
        temperature: T.

    Raises:
        UserError: If the teacher has another number of classes.
    """
    if logits.shape != taught.shape:
        raise UserError(
            f'the teacher answers {tuple(taught.shape)} where the classifier answers {tuple(logits.shape)}: a teacher '
            'must have been trained for the same classes'
        )
    own, other = (F.log_softmax(x.float() / temperature, dim=-1) for x in (logits, taught))
    return temperature**2 * F.kl_div(own, other, reduction='batchmean', log_target=True)


class _Teacher:
    """A frozen network that is no submodule of what it teaches; copies of that share it.

    Args:
        config: Config of the network.
        checkpoint: Its weights; None if the config says where they are.
    """

    def __init__(self, config: Mapping[str, Any], checkpoint: str | None) -> None:
        self.config = deepcopy(dict(config))
        self.checkpoint = checkpoint
        self.network: nn.Module | None = None
        self.device = torch.device('cpu')

    def __deepcopy__(self, memo: dict[int, Any]) -> _Teacher:
        # The moving average of the weights copies the whole model, and has no use for a teacher of its own.
        return self

    def make(self) -> nn.Module:
        """Build the network and load its weights, once.

        Raises:
            UserError: If it cannot be built, or its weights cannot be loaded or do not fit.
        """
        if self.network is None:
            if self.checkpoint is None and not (self.config.get('pretrained') or self.config.get('checkpoint_path')):
                raise UserError(
                    'the teacher has no weights: give --cfg-options model.teacher_checkpoint=FILE, or take a config '
                    'that is not distilled'
                )
            # Building draws random numbers, which the student's training must not notice.
            with torch.random.fork_rng(devices=[]):
                network = self._build()
            if self.checkpoint is not None:
                INITIALIZERS.function('load_exactly')(network, self.checkpoint, 'the teacher')
            self.network = network.eval().requires_grad_(False)
        return self.network

    def logits(self, inputs: Tensor, preprocessor: Any) -> Tensor:
        """Return the teacher's logits, (N, classes), for images that were normalised for another network.

        Args:
            inputs: Those images, (N, 3, H, W).
            preprocessor: What normalised them.
        """
        network: Any = self.make()
        if inputs.device != self.device:
            self.device = inputs.device
            network.to(self.device)
        with torch.no_grad():
            if 'data_preprocessor' in self.config:
                inputs = _renormalised(inputs, preprocessor, network.data_preprocessor)
            taught = network(inputs)
        if not isinstance(taught, Tensor) or taught.dim() != 2:
            raise UserError(
                f'the teacher, {self.config.get("type")}, answers with {type(taught).__name__}; a classifier of one '
                'label and one head is expected'
            )
        return taught

    def _build(self) -> nn.Module:
        try:
            return MMPRETRAIN_MODELS.build(deepcopy(self.config))
        except Exception as error:  # a missing package, a download that fails, an error in the config
            raise UserError(
                f'the teacher, {self.config.get("type")}, cannot be built: {type(error).__name__}: {error}; for a '
                'teacher of timm `pip install timm`, and without network access give a file: --cfg-options '
                'model.teacher.pretrained=False model.teacher_checkpoint=FILE'
            ) from error


def _renormalised(inputs: Tensor, done: Any, expected: Any) -> Tensor:
    """Return images (N, 3, H, W) that one preprocessor has normalised as another one would have."""
    mean, std = _statistics(done, inputs)
    expected_mean, expected_std = _statistics(expected, inputs)
    if done.to_rgb != expected.to_rgb:
        inputs, mean, std = inputs.flip(1), mean.flip(0), std.flip(0)
    return torch.addcmul((mean - expected_mean) / expected_std, inputs, std / expected_std)


def _statistics(preprocessor: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, each (3, 1, 1), of a ``ClsDataPreprocessor``, which may have none."""
    if not hasattr(preprocessor, 'mean'):
        return like.new_zeros(3, 1, 1), like.new_ones(3, 1, 1)
    return preprocessor.mean.to(like), preprocessor.std.to(like)
