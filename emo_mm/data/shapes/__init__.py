"""The demonstration data set: varied shapes."""
