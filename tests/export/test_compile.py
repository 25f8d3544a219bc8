"""`torch.compile` makes one graph of each task's model in inference."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from emo_mm.compat import register_toolbox
from emo_mm.config.names import get_config
from emo_mm.models import EMO, EMOv2
from emo_mm.models.inference.fuse import fuse


def tensors(item):
    if isinstance(item, torch.Tensor):
        return [item]
    return [tensor for part in item for tensor in tensors(part)]


def shallow_model(name):
    """Return the model of a config with one block of each kind: the graphs of the others are the same."""
    cfg = get_config(name)
    register_toolbox(cfg.default_scope)
    archs = {'emo_mm.EMO': EMO, 'emo_mm.EMOv2': EMOv2}[cfg.model.backbone.type].archs
    cfg.model.backbone.update(arch={**archs['1m'], 'depths': (1, 2, 2, 2)}, init_cfg=None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model).eval()


@pytest.mark.toolbox
@pytest.mark.parametrize(
    'name',
    [
        pytest.param('ssdlite_emo_1m_coco', marks=pytest.mark.slow),
        'deeplabv3_emo_1m_ade20k',
        'emo_1m_imagenet',
        'ssdlite_emov2_1m_coco',
        pytest.param('segformer_emov2_1m_ade20k', marks=pytest.mark.slow),
        'emov2_1m_imagenet',
    ],
)
def test_one_graph_serves_every_size(name):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = fuse(shallow_model(name))
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)  # raises at the first graph break
    with torch.no_grad():
        # Another graph are only maps of a single window, or of a single pixel as the last ones of SSD at 256.
        for size in [(264, 272), (300, 290), (270, 320)]:
            x = torch.randn(2, 3, *size)
            for ours, theirs in zip(tensors(compiled(x)), tensors(model(x)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1
