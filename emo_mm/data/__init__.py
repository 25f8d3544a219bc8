"""Data sets: the user's own and the generated demonstration set. Importing this package loads nothing else."""
