"""What every stage uses: the run's folder, progress, processes, signals."""
