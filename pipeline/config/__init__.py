"""The configuration of a run: settings, their validation, overrides."""
