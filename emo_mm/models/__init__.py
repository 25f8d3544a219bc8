"""Networks. Heads are imported by name through the registry, since each needs its own toolbox."""

from emo_mm.models.emo import EMO

__all__ = ['EMO']
