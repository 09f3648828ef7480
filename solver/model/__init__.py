"""The recursive model, its layers and its config."""
