"""What can be asked of the command line, known before TensorFlow is imported."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from lps_tf._internal.names import hint
from lps_tf._version import __version__

#: What `add_subparsers` returns; argparse has no public name for it.
_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command, whose name is `command`; None takes those of the shell.

    Raises:
        SystemExit: If they are not understood, or only help was asked for.
    """
    parser = _Parser(
        prog="python -m lps_tf",
        description="The command line: `lps-tf`, or `python -m lps_tf`.",
    )
    parser.add_argument("--version", action="version", version=f"lps_tf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_list,
        _add_run,
        _add_compare,
        _add_publish,
        _add_certify,
        _add_merge,
        _add_explore,
        _add_import_original,
    ):
        add(commands)
    return parser.parse_args(arguments)


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Adds to each option's help its default, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []):  # a flag, or told in the help itself
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """Shows defaults, and names the command that a misspelt one looks like."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=_Defaults, **options)

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            message += f" {hint(found[1], re.findall(r'[-.0-9A-Za-z_]+', found[2]))}"
        super().error(message.strip())


def _add_demo(commands: _Commands) -> None:
    parser = commands.add_parser(
        "demo", help="from pairs of digits to a robust, certified, exported classifier"
    )
    parser.add_argument("--output", help="folder of the results; default: runs/demo")
    parser.add_argument("--quick", action="store_true", help="every stage, but short")
    parser.add_argument(
        "--fresh", action="store_true", help="do not resume, start over"
    )
    parser.set_defaults(command="demo")


def _add_list(commands: _Commands) -> None:
    parser = commands.add_parser("list", help="the experiments, with their settings")
    parser.add_argument(
        "family", metavar="FAMILY", nargs="?", help="names that begin so; default: all"
    )
    parser.set_defaults(command="list")


def _add_experiments(
    parser: argparse.ArgumentParser, output: str = "runs/SCALE"
) -> None:
    """Options of every command that runs experiments."""
    parser.add_argument(
        "--scale",
        choices=("paper", "laptop", "quick"),
        default="laptop",
        help="the paper's settings and data; minutes without a download; every stage "
        "of that, but short",
    )
    parser.add_argument(
        "--output", metavar="DIR", help=f"folder to write to; default: {output}"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=_existing,
        help="folder of TensorFlow Datasets; default: its own",
    )


def _add_run(commands: _Commands) -> None:
    parser = commands.add_parser("run", help="run an experiment, or go on with it")
    parser.add_argument("name", metavar="NAME", help="of the experiment; see `list`")
    _add_experiments(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="do not resume, start over"
    )
    parser.set_defaults(command="run")


def _add_compare(commands: _Commands) -> None:
    parser = commands.add_parser(
        "compare", help="classifiers trained from several seeds, in one table"
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help="of experiments; see `list`"
    )
    _add_experiments(parser)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.set_defaults(command="compare")


def _add_publish(commands: _Commands) -> None:
    parser = commands.add_parser(
        "publish", help="an experiment's model with a card, to give away; runs it first"
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="default: those of saved_models"
    )
    _add_experiments(parser, "saved_models")
    parser.add_argument("--runs", metavar="DIR", help="of `run`; default: runs/SCALE")
    parser.set_defaults(command="publish")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, metavar="NAME", help="such as photos; its test images"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="of the data, such as patches=[300,30,60]; repeatable",
    )


def _add_certify(commands: _Commands) -> None:
    parser = commands.add_parser("certify", help="certify a data set, or a shard of it")
    _add_models(parser)
    parser.add_argument("--sigma", type=float, required=True, help="of the noise")
    parser.add_argument("--output", required=True, metavar="DIR", help="to write to")
    _add_data(parser)
    parser.add_argument("--n0", type=int, default=100, help="samples for the class")
    parser.add_argument("--n", type=int, default=10_000, help="samples, at most")
    parser.add_argument(
        "--alpha", type=float, default=1e-3, help="risk of a wrong certificate"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--target-radius", type=float, help="certify it, or give up")
    way.add_argument(
        "--share", type=float, help="stop when n samples would add less of the radius"
    )
    parser.add_argument("--ignore-class", type=int, help="label of void pixels")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--shard", metavar="I/N", help="only the I-th of N shards")
    part.add_argument(
        "--queue",
        action="store_true",
        help="the next images that no process with this output has taken, until none "
        "are left",
    )
    parser.add_argument("--limit", type=int, help="only so many images")
    parser.add_argument(
        "--images-per-file", type=int, default=10, help="lost at most if interrupted"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.set_defaults(command="certify")


def _add_models(parser: argparse.ArgumentParser) -> None:
    for name in ("classifier", "set"):
        parser.add_argument(
            name, metavar=name.upper(), type=_model, help="a .keras file, or a preset"
        )


def _add_merge(commands: _Commands) -> None:
    parser = commands.add_parser("merge", help="join the folders of `certify --shard`")
    parser.add_argument(
        "directories", nargs="+", metavar="DIR", type=_existing, help="of one shard"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="to write to")
    parser.set_defaults(command="merge")


def _add_explore(commands: _Commands) -> None:
    parser = commands.add_parser("explore", help="a page to explore a set in a browser")
    parser.add_argument(
        "set", metavar="SET", type=_model, help="a .keras file, or a preset"
    )
    _add_data(parser)
    parser.add_argument("--output", required=True, metavar="PAGE", help="to write")
    parser.add_argument(
        "--classifier",
        metavar="CLASSIFIER",
        type=_model,
        help="a .keras file, or a preset; maps its answers",
    )
    parser.add_argument(
        "--sigma", type=float, help="of the noise, to smooth the classifier"
    )
    parser.add_argument("--radius", type=float, help="default: that of the set")
    parser.add_argument(
        "--images", type=int, help="test images to show; default: by their size"
    )
    parser.set_defaults(command="explore")


def _add_import_original(commands: _Commands) -> None:
    parser = commands.add_parser(
        "import-original",
        help="a checkpoint of the paper's PyTorch code as .keras and SavedModel",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=_existing, help="file to read"
    )
    parser.add_argument(
        "--network",
        required=True,
        help="what it holds, such as cifar10_residual or classifier_wide_resnet",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="to write to")
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="of the network if not the paper's, such as latent_dim=16; repeatable",
    )
    parser.set_defaults(command="import-original")


def _existing(path: str) -> str:
    """A path that is there: before the seconds or minutes of any work."""
    if not Path(path).exists():
        raise argparse.ArgumentTypeError(f"there is no {path}")
    return path


def _model(text: str) -> str:
    """A .keras file that is there, or what may be the name of a preset."""
    return _existing(text) if text.endswith(".keras") else text


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE. Received: {text}")
    try:
        return name, json.loads(value)
    except ValueError:  # neither a number nor a list: a word
        return name, value
