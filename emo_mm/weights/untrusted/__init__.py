"""Reading checkpoints of strangers without running what is in them."""
