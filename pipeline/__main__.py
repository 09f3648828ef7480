"""python -m pipeline COMMAND: see `pipeline.cli.main`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main()
