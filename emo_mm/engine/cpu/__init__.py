"""Training on CPUs."""
