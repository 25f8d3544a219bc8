"""Prediction with PyTorch models, and what a config says about predicting, which exporting needs too."""
