"""Run the `evosearch` command by `python -m evosearch`."""

from evosearch.cli import main

if __name__ == "__main__":
    main()
