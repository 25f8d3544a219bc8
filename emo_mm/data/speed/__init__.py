"""Data loading, sooner."""
