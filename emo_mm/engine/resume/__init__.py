"""Checkpoints that survive, and trainings that continue from them."""
