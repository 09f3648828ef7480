"""Services that every stage uses: run folder, console, progress, processes, signals, exit codes."""
