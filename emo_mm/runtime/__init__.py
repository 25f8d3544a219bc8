"""Prediction with deployed files, without torch and the OpenMMLab stack."""
