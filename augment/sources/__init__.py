"""Load ARC tasks by name or path from JSON files and folders, including partly damaged ones."""
