"""The story: from ARC tasks to a scored submission; the only place with files, devices, clocks and processes."""
