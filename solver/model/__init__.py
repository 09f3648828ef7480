"""The recursive network, its parts and its config."""
