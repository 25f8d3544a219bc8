"""What trainings and tests leave beside checkpoints: metrics, curves, sheets of pictures, a report to read."""
