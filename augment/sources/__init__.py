"""ARC tasks by name or path: JSON files and folders, also partly damaged ones."""
