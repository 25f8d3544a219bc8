"""What stops a training that has gone wrong."""
