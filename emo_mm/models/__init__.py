"""Networks. Heads are imported by name through the registry, since each needs its own toolbox."""

from emo_mm.models.emo import EMO
from emo_mm.models.emov2 import EMOv2

__all__ = ['EMO', 'EMOv2']
