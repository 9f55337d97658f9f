"""`python -m training train CONFIG key=value …`, the form that torchrun starts."""

from training.cli import main

main(prog_name="python -m training")
