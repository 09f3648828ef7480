"""Reproduction of published tables: specifications, trials, result pages."""
