"""Detection data in other files than COCO's: one small file per format, each a reader over ``base.BoxLayout``."""
