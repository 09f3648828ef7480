"""What a run is: settings, their checks, overrides."""
