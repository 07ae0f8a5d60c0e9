"""The command line: `featurestore`. Everything is imported when it is used, to answer at once."""


def main() -> int:
    """Run the command that the process was started with and return its exit code."""
    from featurestore.cli.app import main as run

    return run()
