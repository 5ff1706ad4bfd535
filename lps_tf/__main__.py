"""The command line: python -m lps_tf."""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lps_tf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="from pairs of digits to a robust, certified, exported classifier"
    )
    demo.add_argument("--output", help="folder for the results (default: runs/demo)")
    demo.add_argument("--quick", action="store_true", help="every stage, but short")
    demo.add_argument("--fresh", action="store_true", help="do not resume, start over")
    demo.set_defaults(command=_demo)
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command to go on.", file=sys.stderr)
        return 130
    return 0


def _demo(options: argparse.Namespace) -> None:
    from lps_tf import demo

    settings = demo.QUICK if options.quick else demo.FULL
    output = options.output or ("runs/demo_quick" if options.quick else "runs/demo")
    demo.run(output, settings, options.fresh)
    print(f"\nReport: {output}/report.html")


if __name__ == "__main__":
    sys.exit(main())
