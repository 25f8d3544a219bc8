"""Networks made ready for inference: norms folded, convolutions packed."""
