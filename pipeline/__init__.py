"""The pipeline's stages and command line, with their files, devices and time budget."""
