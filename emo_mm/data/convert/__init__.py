"""Data sets written in another format, in a folder of their own."""
