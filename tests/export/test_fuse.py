"""A fused network gives the same answers."""

import golden
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import emo_mm
from emo_mm.models import EMO, EMOv2
from emo_mm.models.inference.fuse import fuse
from emo_mm.models.layers import LayerNorm2d, LayerScale


def shaken(model):
    """Give every norm statistics, gains and biases that matter."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm | nn.LayerNorm):
            for tensor in (module.weight.data, module.bias.data, *module.buffers()):
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


@pytest.mark.parametrize('model', ['emo_1m', 'emo_2m', 'emo_5m', 'emo_6m', 'emov2_1m', 'emov2_5m'])
@pytest.mark.parametrize('size', [(224, 224), (96, 130)], ids=['whole windows', 'padded windows'])
def test_a_fused_backbone_equals_its_original(model, size):
    backbone = golden.backbone(model)
    backbone.load_state_dict(golden.state_dict(model))
    backbone.eval()
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(fuse(backbone)(x), backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize('family', [EMO, EMOv2])
def test_no_norm_with_weights_is_left_and_the_original_stays(family):
    backbone = shaken(family('1m', drop_path_rate=0.1))
    keys = list(backbone.state_dict())
    fused = fuse(backbone)
    assert not any(isinstance(m, _BatchNorm) for m in fused.modules())
    assert not any(m.elementwise_affine for m in fused.modules() if isinstance(m, LayerNorm2d))
    assert not any(isinstance(m, LayerScale) for m in fused.modules())
    assert not any(p.requires_grad for p in fused.parameters())
    assert list(backbone.state_dict()) == keys
    assert all(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize('family', [EMO, EMOv2])
def test_fusing_twice_changes_nothing(family):
    fused = fuse(shaken(family('1m')))
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(fuse(fused)(x)[-1], fused(x)[-1])


@pytest.mark.parametrize('family', [EMO, EMOv2])
def test_a_norm_with_a_gain_of_zero_is_kept(family):
    backbone = shaken(family('1m'))
    block = backbone.stages[3][1]
    block.norm.weight.data[3] = 0
    fused = fuse(backbone)
    assert fused.stages[3][1].norm.elementwise_affine
    x = torch.randn(1, 3, 100, 100)
    with torch.no_grad():
        torch.testing.assert_close(fused(x)[-1], backbone(x)[-1], rtol=1e-5, atol=1e-4)


@pytest.mark.toolbox
@pytest.mark.parametrize(
    'name',
    [
        'ssdlite_emo_1m_coco',
        'rtmdet_emo_1m_coco',  # its levels share convolutions, and have norms of their own
        'gfl_emo_1m_coco',
        'deeplabv3_emo_1m_ade20k',
        'pspnet_emo_1m_ade20k',
        'emo_1m_imagenet',
    ],
)
def test_whole_models_are_fused_with_their_heads(name):
    model = shaken(emo_mm.build_model(name))
    fused = fuse(model)
    assert not any(isinstance(m, _BatchNorm) for m in fused.modules())
    assert not any(m.elementwise_affine for m in fused.modules() if isinstance(m, LayerNorm2d))
    x = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))

    def outputs(network):
        with torch.no_grad():
            result = network(x)  # the raw outputs, post-processing aside
        flat, todo = [], [result]
        while todo:
            item = todo.pop()
            flat.append(item) if isinstance(item, torch.Tensor) else todo.extend(item)
        return flat

    for ours, theirs in zip(outputs(fused), outputs(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
