"""`python -m fxprune` is the command line."""

from fxprune.cli import main

if __name__ == "__main__":
    main(prog_name="python -m fxprune")
