"""Batches of one image."""

import torch
from torch import nn

from emo_mm.engine.single_image import norm_single_pixels


def test_a_single_pixel_of_one_image_is_normed_by_the_running_averages():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)).train()
    assert norm_single_pixels(model) == 1
    image = torch.rand(1, 4, 5, 5)
    before = model[1].running_mean.clone()
    torch.testing.assert_close(model(image), model.eval()(image))
    assert model.train()[1].training
    model(image).sum().backward()
    assert model[1].weight.grad is not None
    assert model[1].training
    torch.testing.assert_close(model[1].running_mean, before)


def test_larger_maps_and_batches_train_as_ever():
    layers = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    norm_single_pixels(layers[0])
    for shape in [(1, 4, 5, 5), (2, 4, 1, 1)]:
        images = torch.rand(shape)
        torch.testing.assert_close(layers[0](images), layers[1](images))
    torch.testing.assert_close(layers[0].running_var, layers[1].running_var)


def test_a_frozen_layer_stays_frozen():
    layer = nn.BatchNorm2d(4)
    norm_single_pixels(layer)
    layer.eval()(torch.rand(1, 4, 1, 1))
    assert not layer.training
