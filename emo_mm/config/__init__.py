"""Configs: their names, the table of published models, and what is built from them."""
