"""The detection configs follow their recipe, and their detectors train, predict and are synchronised when asked."""

import pytest
import recipes
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from emo_mm.config.build import build_model
from emo_mm.config.names import get_config, list_models
from emo_mm.models.emo import ARCHS
from emo_mm.models.emov2 import ARCHS as EMOV2_ARCHS

pytestmark = pytest.mark.toolbox

SSDLITE = [f'ssdlite_emo_{size}_coco' for size in ('1m', '2m', '5m')]
RETINANET = [f'retinanet_emo_{size}_coco' for size in ('1m', '2m', '5m')]

EMOV2 = [
    name.format(f'emov2_{size}')
    for name in ('ssdlite_{}_coco', 'ssdlite_{}_512_coco', 'retinanet_{}_coco', 'mask-rcnn_{}_coco')
    for size in EMOV2_ARCHS
]


OURS = [
    f'{head}_{backbone}_coco'
    for head in ('gfl', 'rtmdet', 'rtmdet-ins')
    for backbone in ('emo_1m', 'emo_2m', 'emo_5m', *(f'emov2_{size}' for size in EMOV2_ARCHS))
]
DEMOS = ['ssdlite_emo_1m_demo', 'ssdlite_emov2_1m_demo', 'gfl_emo_1m_demo', 'rtmdet_emo_1m_demo']
DEMOS += ['rtmdet-ins_emo_1m_demo', 'gfl-p2_emo_1m_demo']


def kinds(pipeline):
    return [step['type'].removeprefix('emo_mm.') for step in pipeline]  # ours give the same results


def test_every_published_detector_has_a_config():
    assert {*list_models('det'), *list_models('ins')} == {*SSDLITE, *RETINANET, *EMOV2, *OURS, *DEMOS}


@pytest.mark.parametrize('name', SSDLITE + RETINANET)
def test_the_backbone_is_that_of_the_recipe(name):
    size = name.split('_')[2]
    cfg = get_config(name)
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch) == ('emo_mm.EMO', size)
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=f'emo_{size}')
    assert backbone.window_size == (10 if size == '5m' else 7)
    assert backbone.norm_eval
    assert cfg.sync_bn == 'torch'


@pytest.mark.parametrize('name', SSDLITE)
def test_ssdlite_is_that_of_the_recipe(name):
    cfg = get_config(name)
    model = cfg.model
    stages = ARCHS[name.split('_')[2]]['embed_dims'][2:]
    channels = (*stages, 512, 256, 256, 128)
    assert model.backbone.out_indices == (3, 4)
    assert model.neck.out_channels == model.bbox_head.in_channels == channels
    for part in (model.neck, model.bbox_head):
        assert part.norm_cfg == dict(type='BN', eps=1e-3, momentum=0.03)
        assert part.act_cfg == dict(type='ReLU6')
        assert part.use_depthwise
    anchors = model.bbox_head.anchor_generator
    assert anchors.strides == [16, 32, 64, 107, 160, 320]
    assert anchors.min_sizes == [48, 100, 150, 202, 253, 304]
    assert anchors.max_sizes == [100, 150, 202, 253, 304, 320]
    assert anchors.ratios == [[2, 3]] * 6
    assert model.bbox_head.bbox_coder.target_stds == [0.1, 0.1, 0.2, 0.2]
    assert (model.train_cfg.assigner.pos_iou_thr, model.train_cfg.assigner.neg_iou_thr) == (0.5, 0.5)
    assert model.train_cfg.neg_pos_ratio == 3
    test = model.test_cfg
    assert (test.score_thr, test.nms.iou_threshold, test.max_per_img, test.nms_pre) == (0.02, 0.45, 200, 1000)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.times) == ('RepeatDataset', 5)
    assert kinds(dataset.dataset.pipeline) == [
        'LoadImageFromFile', 'LoadAnnotations', 'Expand', 'MinIoURandomCrop', 'Resize', 'RandomFlip',
        'PhotoMetricDistortion', 'PackDetInputs',
    ]  # fmt: skip
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 192
    assert cfg.train_cfg.max_epochs * dataset.times == 120


@pytest.mark.parametrize('name', RETINANET)
def test_retinanet_is_that_of_the_recipe(name):
    cfg = get_config(name)
    model = cfg.model
    assert tuple(model.neck.in_channels) == ARCHS[name.split('_')[2]]['embed_dims']
    assert (model.neck.start_level, model.neck.add_extra_convs, model.neck.num_outs) == (1, 'on_input', 5)
    assert model.backbone.frozen_stages == 1
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 32
    resize = cfg.train_dataloader.dataset.pipeline[2]
    assert (resize.scale, resize.keep_ratio) == ((1333, 800), True)


@pytest.mark.parametrize(('name', 'lr', 'epochs'), [(SSDLITE[0], 1.2e-3, 24), (RETINANET[0], 2e-4, 12)])
def test_training_is_that_of_the_recipe(name, lr, epochs):
    cfg = get_config(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, 0.05)
    assert cfg.optim_wrapper.get('clip_grad') is None
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.by_epoch, warm_up.end) == ('LinearLR', 0.001, False, 500)
    assert (cosine.type, cosine.by_epoch, cosine.begin, cosine.T_max, cosine.eta_min) == (
        'CosineAnnealingLR', True, 0, epochs, 0,
    )  # fmt: skip
    decays = recipes.weight_decays(cfg, build_model(name))
    assert {name: decay for name, decay in decays.items() if decay != (0 if 'norm' in name else 0.05)} == {}


@pytest.mark.parametrize('name', OURS)
def test_our_detectors_take_three_stages_and_mixed_images(name):
    _, family, size, _ = name.split('_')
    cfg = get_config(name)
    widths = (ARCHS if family == 'emo' else EMOV2_ARCHS)[size]['embed_dims'][1:]
    assert cfg.model.backbone.type == {'emo': 'emo_mm.EMO', 'emov2': 'emo_mm.EMOv2'}[family]
    assert (cfg.model.backbone.arch, cfg.model.backbone.init_cfg.checkpoint) == (size, f'{family}_{size}')
    assert (cfg.model.backbone.out_indices, tuple(cfg.model.neck.in_channels)) == ((2, 3, 4), widths)
    assert cfg.model.neck.out_channels == cfg.model.bbox_head.in_channels == cfg.model.bbox_head.feat_channels
    pipelines = cfg.train_dataloader.dataset.pipeline, cfg.custom_hooks[-1].pipeline
    # what a crop leaves of an object may be too small for a mask
    mixed, plain = ([step for step in steps if step.type != 'FilterAnnotations'] for steps in pipelines)
    assert any('FilterAnnotations' in kinds(steps) for steps in pipelines) == (name in list_models('ins'))
    assert kinds(mixed) == [
        'LoadImageFromFile', 'LoadAnnotations', 'Resize', 'CachedMosaic', 'RandomResize', 'RandomCrop',
        'YOLOXHSVRandomAug', 'RandomFlip', 'Pad', 'CachedMixUp', 'PackDetInputs',
    ]  # fmt: skip
    assert kinds(plain) == [kind for kind in kinds(mixed) if kind not in ('Resize', 'CachedMosaic', 'CachedMixUp')]
    side = cfg.test_dataloader.dataset.pipeline[1].scale
    sizes = [mixed[2].scale, mixed[3].img_scale, mixed[5].crop_size, mixed[8].size, mixed[9].img_scale]
    assert {*sizes, plain[2].scale, plain[3].crop_size, plain[6].size} == {side}
    assert mixed[4].scale == (2 * side[0], 2 * side[1])
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('name', EMOV2)
def test_emov2_is_trained_by_its_own_recipe(name):
    size = name.split('_')[2]
    cfg = get_config(name)
    backbone, widths = cfg.model.backbone, EMOV2_ARCHS[size]['embed_dims']
    assert (backbone.type, backbone.arch, backbone.window_size) == ('emo_mm.EMOv2', size, 10)
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=f'emov2_{size}')
    assert backbone.norm_eval
    ssd = name.startswith('ssdlite')
    assert tuple(cfg.model.neck.in_channels) == (widths[2:] if ssd else widths)
    wrapper = cfg.optim_wrapper
    assert (wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (2.4e-3 if ssd else 2e-4, 0.05)
    assert wrapper.clip_grad.max_norm == 0.1
    warm_up, cosine = cfg.param_scheduler
    half = 12 if ssd else 6
    assert (warm_up.start_factor, warm_up.end) == (1e-5, 500)
    assert (cosine.begin, cosine.end, cosine.T_max) == (half, 2 * half, half)
    assert cfg.train_dataloader.batch_size * (8 if ssd else 4) == cfg.auto_scale_lr.base_batch_size
    if ssd:
        side = 512 if '_512_' in name else 320
        assert cfg.train_dataloader.dataset.dataset.pipeline[4].scale == (side, side)
        assert cfg.test_dataloader.dataset.pipeline[1].scale == (side, side)
    if name.startswith('mask'):
        assert cfg.train_dataloader.dataset.pipeline[1].with_mask
        assert cfg.test_evaluator.metric == ['bbox', 'segm']


def sample(height, width, with_masks=True):
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), (height, width))
    data = DetDataSample(metainfo=dict(scale_factor=(1.0, 1.0), img_id=0, **shapes))
    data.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 60.0, 70.0], [30.0, 20.0, 100.0, 100.0]]), labels=torch.tensor([0, 3])
    )
    if with_masks:
        data.gt_instances.masks = BitmapMasks([np.ones((height, width), np.uint8)] * 2, height, width)
    return data


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        (SSDLITE[1], (320, 320)),
        (RETINANET[0], (128, 160)),
        (EMOV2[0], (320, 320)),
        (EMOV2[12], (128, 160)),
        ('gfl_emo_1m_coco', (128, 160)),
        ('rtmdet_emo_1m_coco', (128, 160)),
        ('rtmdet-ins_emo_1m_coco', (128, 160)),
    ],
)
def test_detectors_give_losses_gradients_and_boxes(name, size):
    torch.manual_seed(0)
    model = build_model(name)
    images = torch.randn(2, 3, *size)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model.train()
        losses = model.loss(images, [sample(*size, with_masks=name in list_models('ins')) for _ in range(2)])
        total, _ = model.parse_losses(losses)
        total.backward()
        model.eval()
        with torch.no_grad():
            results = model.predict(images, [sample(*size), sample(*size)])
    assert total.isfinite()
    frozen = model.backbone.frozen_stages
    for key, parameter in model.named_parameters():
        is_frozen = frozen >= 0 and (key.startswith('backbone.stem') or key.startswith('backbone.stages.0'))
        assert (parameter.grad is None) == is_frozen, key
    for result in results:
        found = result.pred_instances
        assert found.bboxes.shape == (len(found), 4)
        assert found.scores.shape == found.labels.shape == (len(found),)
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_the_ssdlite_head_predicts_where_that_of_the_toolbox_may_not():
    """With scores that favour one class at one place, the box of that place comes out."""
    torch.manual_seed(0)
    model = build_model(SSDLITE[0])
    head = model.bbox_head
    maps = [torch.zeros(1, c, s, s) for c, s in zip((80, 168, 512, 256, 256, 128), (20, 10, 5, 3, 2, 1), strict=True)]
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        scores, boxes = head(maps)
        scores = [torch.zeros_like(x) for x in scores]
        for x in scores:
            x[:, 80::81] = 20  # background everywhere
        scores[0][0, 5, 4, 7] = 40  # class 5 of the first anchor at row 4, column 7
        boxes = [torch.zeros_like(x) for x in boxes]
        result = head.predict_by_feat(scores, boxes, batch_img_metas=[sample(320, 320).metainfo], rescale=False)[0]
    assert result.labels.tolist() == [5]
    centre_x, centre_y = 7 * 16 + 8, 4 * 16 + 8
    expected = torch.tensor([[centre_x - 24.0, centre_y - 24.0, centre_x + 24.0, centre_y + 24.0]])
    torch.testing.assert_close(result.bboxes, expected)


def test_batchnorm_stays_plain_in_the_config_and_turns_synchronised_on_request():
    from mmengine.model import convert_sync_batchnorm

    model = build_model(SSDLITE[0])
    plain = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert plain
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    converted = convert_sync_batchnorm(model, 'torch')
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in converted.modules()) == plain


def test_the_faster_evaluator_gives_equal_figures_where_the_stack_has_it(tmp_path):
    pytest.importorskip('mmdet.evaluation.metrics.faster_coco_metric', reason='the classic mmdet has none')
    from mmengine.registry import METRICS
    from planning import use_faster_coco_metric

    from emo_mm.compat import register_toolbox
    from emo_mm.data.shapes.generate import generate

    register_toolbox('mmdet')
    root = generate(tmp_path / 'shapes', num_train=1, num_val=12).root
    cfg = get_config('ssdlite_emo_1m_demo')
    cfg.val_evaluator.ann_file = str(root / 'annotations/instances_val.json')
    rng = torch.Generator().manual_seed(0)
    results = []
    for kind in ('CocoMetric', 'FasterCocoMetric'):
        if kind == 'FasterCocoMetric':
            assert use_faster_coco_metric(cfg)
        assert cfg.val_evaluator.type == kind
        with DefaultScope.overwrite_default_scope('mmdet'):
            metric = METRICS.build(cfg.val_evaluator)
        metric.dataset_meta = cfg.val_dataloader.dataset.metainfo
        rng.manual_seed(0)
        for image in metric._coco_api.loadImgs(metric._coco_api.getImgIds()):
            truth = metric._coco_api.imgToAnns[image['id']]
            boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (ann['bbox'] for ann in truth)])
            noise = torch.randn(boxes.shape, generator=rng) * 6
            found = dict(
                bboxes=boxes + noise,
                scores=torch.rand(len(boxes), generator=rng),
                labels=torch.tensor([ann['category_id'] - 1 for ann in truth]),
            )
            metric.process({}, [dict(img_id=image['id'], ori_shape=(256, 256), pred_instances=found)])
        results.append(metric.evaluate(12))
    assert 0.1 < results[0]['coco/bbox_mAP'] < 1
    assert results[0] == results[1]
