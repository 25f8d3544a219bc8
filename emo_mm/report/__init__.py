"""Pictures of trainings and predictions."""
