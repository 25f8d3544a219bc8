"""Pictures of a finished run: training curves and sheets of predictions beside the truth."""
