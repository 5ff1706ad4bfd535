"""The command line: python -m lps_tf."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
    convert = commands.add_parser(
        "import-original",
        help="a checkpoint of the paper's PyTorch code as .keras and SavedModel",
    )
    convert.add_argument("checkpoint", metavar="CHECKPOINT", help="file to read")
    convert.add_argument(
        "--network",
        required=True,
        help="what it holds, such as cifar10_residual or classifier_wide_resnet",
    )
    convert.add_argument("--output", required=True, metavar="DIR", help="to write to")
    convert.add_argument(
        "--size",
        action="append",
        default=[],
        type=_size,
        metavar="NAME=VALUE",
        help="of the network if not the paper's, such as latent_dim=16; repeatable",
    )
    convert.set_defaults(command=_import_original)
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, ImportError, OSError) as error:
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


def _size(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if not (name.isidentifier() and equals):
            raise ValueError
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be NAME=VALUE, a number or a list such as [4,8]. Received: {text}"
        ) from None


def _import_original(options: argparse.Namespace) -> None:
    from lps_tf import export, files, original

    try:
        model = original.load_checkpoint(
            options.checkpoint, options.network, **dict(options.size)
        )
    except TypeError as error:  # a size that this network does not have
        raise ValueError(f"--size: {error}") from error
    output = Path(options.output)
    paths = (
        files.atomically(output / f"{options.network}.keras", model.save),
        export(model, output / "saved_model"),
    )
    for path in paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
