import os


def unmeasured() -> dict[str, str]:
    """The environment of a process that runs little of the package: measured it takes twice as long."""
    return {name: os.environ[name] for name in os.environ if name != "COVERAGE_PROCESS_CONFIG"}
