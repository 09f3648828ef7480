"""Published tables run again: specs, trials, pages."""
