"""Single files of a data set: whether each is sound, and what earlier runs found."""
