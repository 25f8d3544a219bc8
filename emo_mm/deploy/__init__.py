"""What turns a trained network into a deployed one. Nothing here is imported by the models."""

from emo_mm.deploy.fuse import fuse

__all__ = ['fuse']
