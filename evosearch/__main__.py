"""`python -m evosearch` is the `evosearch` command."""

from evosearch.cli import main

if __name__ == "__main__":
    main()
