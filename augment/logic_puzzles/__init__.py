"""Generate Sudoku, Maze and N-Queens tasks, or read them from the published files."""
