"""Recipes: named, complete run configs."""
