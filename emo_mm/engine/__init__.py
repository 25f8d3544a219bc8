"""Training and testing: what mmengine does is configured, what it lacks is here."""
