"""From a trained network to a file for another runtime, checked there."""
