"""The SSD head that also predicts, a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import SSDHead
from mmengine.structures import InstanceData
from torch import Tensor

from emo_mm.registry import MODELS


@MODELS.register_module()
class SSDLiteHead(SSDHead):
    """mmdet's SSD head, fixed for inference and post-processed by the batch.

    mmdet 3.3.0 and its maintained fork compute the losses of SSD in functions and give ``SSDHead`` no ``loss_cls``,
    which the prediction code of the base class asks for custom class activations. There are none.
    """

    loss_cls = None

    def predict_by_feat(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        score_factors: Sequence[Tensor] | None = None,
        batch_img_metas: Sequence[dict[str, Any]] | None = None,
        cfg: Any = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Return the boxes of each image, the same as mmdet's, which goes through images and levels one by one.

        Scores and candidates of all images and levels are computed together. Non-maximum suppression stays with each
        image: mmdet keeps classes apart by moving their boxes, and moving those of a whole batch apart would take them
        so far that float32 rounds their overlaps.

        Args:
            cls_scores: Class scores of each level, (N, priors * (classes + 1), H, W).
            bbox_preds: Box deltas of each level, (N, priors * 4, H, W).
            score_factors: Not of SSD; left to mmdet.
            batch_img_metas: Shape and scale of each image.
            cfg: Settings in the place of ``test_cfg``.
            rescale: Whether boxes are in pixels of the file instead of the network's input.
            with_nms: Whether to suppress boxes that overlap better ones.
        """
        settings = self.test_cfg if cfg is None else cfg
        metas = batch_img_metas or []
        nms_pre = settings.get('nms_pre', -1)
        one_shape = len({tuple(meta['img_shape'][:2]) for meta in metas}) == 1
        if score_factors is not None or self.use_sigmoid_cls or nms_pre < 1 or not one_shape:
            return super().predict_by_feat(
                cls_scores, bbox_preds, score_factors, batch_img_metas, cfg, rescale, with_nms
            )
        sizes = [scores.shape[-2:] for scores in cls_scores]
        priors = self.prior_generator.grid_priors(sizes, dtype=cls_scores[0].dtype, device=cls_scores[0].device)
        scores = _by_prior(cls_scores, self.cls_out_channels).softmax(-1)[..., :-1]  # N,P,C: background is the last
        deltas = _by_prior(bbox_preds, self.bbox_coder.encode_size)  # N,P,4
        passed = scores > settings.get('score_thr', 0)
        image, prior, label = passed.nonzero(as_tuple=True)
        levels = torch.cat([scores.new_full((len(p),), i, dtype=torch.long) for i, p in enumerate(priors)])
        score, kept = _best_of_groups(scores[passed], image * len(priors) + levels[prior], nms_pre)
        image, prior, label = image[kept], prior[kept], label[kept]
        boxes = self.bbox_coder.decode(torch.cat(priors)[prior], deltas[image, prior], max_shape=metas[0]['img_shape'])
        counts = image.bincount(minlength=len(metas)).tolist()
        return [
            self._bbox_post_process(
                InstanceData(bboxes=image_boxes, scores=image_scores, labels=image_labels),
                settings,
                rescale=rescale,
                with_nms=with_nms,
                img_meta=meta,
            )
            for image_boxes, image_scores, image_labels, meta in zip(
                boxes.split(counts), score.split(counts), label.split(counts), metas, strict=True
            )
        ]


def _by_prior(levels: Sequence[Tensor], channels: int) -> Tensor:
    """Join maps of (N, priors * channels, H, W) to (N, P, channels), P being all priors of all levels in order."""
    # N,A*C,H,W -> N,H,W,A*C -> N,H*W*A,C
    return torch.cat([level.detach().permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels], dim=1)


def _best_of_groups(scores: Tensor, groups: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the ``most`` best scores of each group, (M,) by group and falling within it, and their indices."""
    scores, order = scores.sort(descending=True, stable=True)
    groups, by_group = groups[order].sort(stable=True)
    starts = torch.searchsorted(groups, groups)  # where the group of each score begins
    kept = torch.arange(len(groups), device=groups.device) - starts < most
    return scores[by_group][kept], order[by_group][kept]
