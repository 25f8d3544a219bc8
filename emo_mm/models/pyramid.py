"""What EMO and EMOv2 share: a stem and four stages of mobile blocks, as a feature pyramid for any head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.compiler import is_compiling

from emo_mm.models.layers import IRMB
from emo_mm.models.names import CONTAINERS, OfficialNames, native_names
from emo_mm.models.settings import StageSettings, pyramid_settings
from emo_mm.registry import INITIALIZERS


class MobilePyramid(BaseModule):
    """A stem of stride 2 and four stages of mobile blocks, each halving the map, of which any may be returned.

    Args:
        arch: Name of a row of ``archs``, or a dict with its keys, each a sequence of four, ``drop_path_rate`` being
            optional.
        in_channels: Channels of the image.
        out_indices: Maps to return, in this order: 0 is the stem (stride 2), 1 to 4 the stages (strides 4 to 32);
            negative indices count from the end.
        window_size: Side of the attention windows in pixels of the map, one for all stages or one per stage; 0 is one
            window over the whole map. It has no weights: the published detectors and segmenters changed it at will.
        drop_path_rate: Rate of stochastic depth at the last block, growing linearly from 0; None takes the published
            one.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and stages 1 to k: no gradients, and statistics stay
            as they are, whatever ``train()`` says.
        norm_eval: Whether BatchNorm statistics stay as they are in training.
        with_cp: Whether each block recomputes its activations in the backward pass to save memory.
        init_cfg: MMEngine's initialisation; ``dict(type='Pretrained', checkpoint=...)`` takes a path, an address or
            the name of published weights, and fails unless every tensor of the backbone is found.

    Attributes:
        archs: The published architectures by name. Each row has one entry per stage; ``num_heads`` 0 is a stage
            without attention.
        block: The block.
        names: Names of the tensors in the published state dicts.
        out_channels: Width of each returned map.
        out_strides: Stride of each returned map.

    Raises:
        ValueError: If an argument has a value that is not allowed.
    """

    archs: ClassVar[Mapping[str, Mapping[str, Any]]]
    block: ClassVar[type[IRMB]]
    names: ClassVar[OfficialNames]
    # of the maps; an exporter whose runtime has a layout of its own takes another
    memory_format = torch.channels_last

    def __init__(
        self,
        arch: str | Mapping[str, Any] = '1m',
        in_channels: int = 3,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        window_size: int | Sequence[int] = 7,
        drop_path_rate: float | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        if init_cfg is not None and not isinstance(init_cfg, Mapping):
            raise ValueError(f'init_cfg is {init_cfg!r}; it must be a dict')
        super().__init__(init_cfg=dict(init_cfg) if init_cfg is not None else None)
        settings = pyramid_settings(
            self.archs, arch, in_channels, out_indices, window_size, drop_path_rate, frozen_stages
        )
        self.arch = arch if isinstance(arch, str) else 'custom'
        self.in_channels = in_channels
        self.out_indices = settings.out_indices
        self.window_sizes = tuple(stage.window_size for stage in settings.stages)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        self.stem, stem_dim = self.make_stem(in_channels, settings.dims)
        dims = (stem_dim, *settings.dims)
        self.out_channels = tuple(dims[i] for i in self.out_indices)
        self.out_strides = tuple(2 ** (i + 1) for i in self.out_indices)
        depths = [stage.depth for stage in settings.stages]
        drop_path_rates = torch.linspace(0, settings.drop_path_rate, sum(depths), device='cpu').split(depths)
        self.stages = nn.ModuleList(
            self._make_stage(in_dim, stage, rates.tolist(), with_cp)
            for in_dim, stage, rates in zip(dims[:-1], settings.stages, drop_path_rates, strict=True)
        )

        self.register_load_state_dict_pre_hook(_rename_official_keys)
        self._freeze()

    @classmethod
    def _make_stage(
        cls, in_dim: int, stage: StageSettings, drop_path_rates: Sequence[float], with_cp: bool
    ) -> nn.Sequential:
        """Return the blocks of a stage, of which the first halves the map, widens twice as much and does not attend."""
        blocks = []
        for i, rate in enumerate(drop_path_rates):
            first = i == 0
            blocks.append(
                cls.block(
                    in_dim if first else stage.dim,
                    stage.dim,
                    expand_ratio=stage.expand_ratio * (2 if first else 1),
                    kernel_size=stage.kernel_size,
                    stride=2 if first else 1,
                    norm=stage.norm,
                    act=stage.act,
                    num_heads=0 if first else stage.num_heads,
                    window_size=stage.window_size,
                    drop_path_rate=rate,
                    with_cp=with_cp,
                )
            )
        return nn.Sequential(*blocks)

    @classmethod
    def make_stem(cls, in_channels: int, embed_dims: Sequence[int]) -> tuple[nn.Module, int]:
        """Return the stem for images of ``in_channels`` before stages of the given widths, and its own width."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of ``out_indices`` for images of shape (N, in_channels, H, W), each (N, C, H/s, W/s).

        Raises:
            ValueError: If the images are of another shape, or there is nothing in them.
        """
        if not is_compiling() and (x.dim() != 4 or x.shape[1] != self.in_channels or 0 in x.shape):
            raise ValueError(
                f'images are of shape {tuple(x.shape)}; it must be (N, {self.in_channels}, H, W), no 0 in it'
            )
        # One copy of the image here, and every convolution, norm and window below works on its innermost axis.
        x = self.stem(x.contiguous(memory_format=self.memory_format))
        maps = {}  # of those to return only: the others' memory is soon needed
        for index in range(max(self.out_indices) + 1):
            x = x if index == 0 else self.stages[index - 1](x)
            if index in self.out_indices:
                maps[index] = x
        return tuple(maps[index] for index in self.out_indices)

    def train(self, mode: bool = True) -> MobilePyramid:
        """Switch to training mode, but for what is frozen."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for m in self.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm):
                    m.eval()
        return self

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; without it, PyTorch's own initialisation is the published one."""
        if self.init_cfg is not None and self.init_cfg.get('type') == 'Pretrained':
            # by its name: weights are read above the models
            INITIALIZERS.function('init_backbone_from')(self, self.init_cfg)
            self._is_init = True
        else:
            super().init_weights()

    @staticmethod
    def _checkpoint_filter(
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Give the tensors of a published network our names, in place; mmpretrain's classifiers call it on loading.

        The backbone's own hook sees what is under ``backbone.`` only, where a published classifier has nothing.
        """
        # MMEngine unwraps ``state_dict`` only, and would pass in silence over the tensors below ``net_E``.
        container = next((key for key in CONTAINERS if isinstance(state_dict.get(key), Mapping)), None)
        if container is not None:
            tensors = dict(state_dict[container])
            state_dict.clear()
            state_dict.update(tensors)
        own = {key[len(prefix) :]: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
        names = native_names(own)
        state_dict.update({prefix + names[key]: tensor for key, tensor in own.items()})

    def _freeze(self) -> None:
        for part in (self.stem, *self.stages)[: self.frozen_stages + 1]:
            part.eval()
            part.requires_grad_(False)


def _rename_official_keys(
    module: MobilePyramid,
    state_dict: dict[str, Any],
    prefix: str,
    local_metadata: dict,
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Give the tensors of a published state dict our names, in place, before they are loaded.

    The classifier's tensors are not the backbone's own: they are dropped, but only out of a published state dict.
    """
    names = module.names
    own = [key for key in state_dict if key.startswith(prefix)]
    if not any(names.is_backbone(key[len(prefix) :]) for key in own):
        return
    for key in own:
        try:
            name = names.native_key(key[len(prefix) :])
        except KeyError:
            continue  # stays as it is, and is reported as unexpected
        tensor = state_dict.pop(key)
        if name is not None:
            state_dict[prefix + name] = tensor
