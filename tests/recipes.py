"""What the tests of the configs ask of a recipe: the rates and decays that an optimizer really gets."""

from __future__ import annotations

import copy

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn


def learning_rates(cfg: Config, steps: int, epoch_length: int = 1) -> list[float]:
    """Return the learning rate at each of the first steps and after the last one, epochs having ``epoch_length``."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = []
    for settings in copy.deepcopy(cfg.param_scheduler):
        kind = PARAM_SCHEDULERS.get(settings.pop('type'))
        if settings.pop('convert_to_iter_based', False):
            settings['epoch_length'] = epoch_length
            schedulers.append(kind.build_iter_from_epoch(optimizer=optimizer, **settings))
        else:
            assert not settings['by_epoch']
            schedulers.append(kind(optimizer, **settings))
    rates = [optimizer.param_groups[0]['lr']]
    for _ in range(steps):
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        rates.append(optimizer.param_groups[0]['lr'])
    return rates


def weight_decays(cfg: Config, model: nn.Module) -> dict[str, float]:
    """Return the weight decay of every parameter that is trained by its name."""
    settings = copy.deepcopy(cfg.optim_wrapper)
    settings.type = 'OptimWrapper'
    settings.pop('loss_scale', None)
    groups = build_optim_wrapper(model, settings).optimizer.param_groups
    by_id = {id(parameter): group['weight_decay'] for group in groups for parameter in group['params']}
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters() if parameter.requires_grad}
