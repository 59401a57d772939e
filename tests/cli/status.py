"""How a verb ends, called in this process."""

from clapjax.cli.main import main


def main_status(*arguments) -> int:
    """`main` of arguments, with the exit that argparse makes turned into a status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
