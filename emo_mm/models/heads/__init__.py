"""Heads, one module per head: each imports its own toolbox and is imported by name through the registry."""
