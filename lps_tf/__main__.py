"""The command line: `lps-tf`, or `python -m lps_tf`."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

#: What `add_subparsers` returns; argparse has no public name for it.
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lps_tf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_list,
        _add_run,
        _add_publish,
        _add_certify,
        _add_merge,
        _add_import_original,
    ):
        add(commands)
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


def _add_demo(commands: _Commands) -> None:
    parser = commands.add_parser(
        "demo", help="from pairs of digits to a robust, certified, exported classifier"
    )
    parser.add_argument("--output", help="folder for the results (default: runs/demo)")
    parser.add_argument("--quick", action="store_true", help="every stage, but short")
    parser.add_argument(
        "--fresh", action="store_true", help="do not resume, start over"
    )
    parser.set_defaults(command=_demo)


def _add_list(commands: _Commands) -> None:
    parser = commands.add_parser("list", help="the paper's experiments")
    parser.set_defaults(command=_list)


def _add_run(commands: _Commands) -> None:
    parser = commands.add_parser("run", help="run an experiment, or go on with it")
    parser.add_argument("name", metavar="NAME", help="of the experiment; see `list`")
    parser.add_argument(
        "--scale",
        choices=("paper", "laptop", "quick"),
        default="laptop",
        help="the paper's settings and data; a few minutes without a download (the "
        "default); every stage of that, but short",
    )
    parser.add_argument("--output", metavar="DIR", help="default: runs/SCALE")
    parser.add_argument("--data-dir", metavar="DIR", help="of TensorFlow Datasets")
    parser.add_argument(
        "--fresh", action="store_true", help="do not resume, start over"
    )
    parser.set_defaults(command=_run)


def _add_publish(commands: _Commands) -> None:
    parser = commands.add_parser(
        "publish", help="an experiment's model with a card, to give away; runs it first"
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="default: those of saved_models"
    )
    parser.add_argument(
        "--scale", choices=("paper", "laptop", "quick"), default="laptop"
    )
    parser.add_argument("--output", metavar="DIR", help="default: saved_models")
    parser.add_argument("--runs", metavar="DIR", help="of `run`; default: runs/SCALE")
    parser.add_argument("--data-dir", metavar="DIR", help="of TensorFlow Datasets")
    parser.set_defaults(command=_publish)


def _add_certify(commands: _Commands) -> None:
    parser = commands.add_parser("certify", help="certify a data set, or a shard of it")
    parser.add_argument("classifier", metavar="CLASSIFIER", help="a .keras file")
    parser.add_argument("set", metavar="SET", help="a .keras file")
    parser.add_argument("--sigma", type=float, required=True, help="of the noise")
    parser.add_argument("--output", required=True, metavar="DIR", help="to write to")
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
    parser.add_argument("--n0", type=int, default=100, help="samples for the class")
    parser.add_argument("--n", type=int, default=10_000, help="samples, at most")
    parser.add_argument("--alpha", type=float, default=1e-3)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--target-radius", type=float, help="certify it, or give up")
    way.add_argument(
        "--share", type=float, help="stop when n samples would add less of the radius"
    )
    parser.add_argument("--ignore-class", type=int, help="label of void pixels")
    parser.add_argument("--shard", metavar="I/N", help="only the I-th of N shards")
    parser.add_argument("--limit", type=int, help="only so many images")
    parser.add_argument("--images-per-file", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(command=_certify)


def _add_merge(commands: _Commands) -> None:
    parser = commands.add_parser("merge", help="join the folders of `certify --shard`")
    parser.add_argument("directories", nargs="+", metavar="DIR")
    parser.add_argument("--output", required=True, metavar="DIR", help="to write to")
    parser.set_defaults(command=_merge)


def _add_import_original(commands: _Commands) -> None:
    parser = commands.add_parser(
        "import-original",
        help="a checkpoint of the paper's PyTorch code as .keras and SavedModel",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file to read")
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
    parser.set_defaults(command=_import_original)


def _start_tensorflow() -> None:
    """Imports it first, quietly; what needs none of it answers at once."""
    importlib.import_module("lps_tf._internal.backend")


def _demo(options: argparse.Namespace) -> None:
    _start_tensorflow()
    from lps_tf.experiments import demo

    output = options.output or ("runs/demo_quick" if options.quick else "runs/demo")
    demo.run(output, "quick" if options.quick else "laptop", options.fresh)
    print(f"\nReport: {output}/report.html")


def _list(options: argparse.Namespace) -> None:
    from lps_tf import experiments

    print(experiments.list_experiments())


def _run(options: argparse.Namespace) -> None:
    from lps_tf import experiments

    experiments.find(options.name)  # before TensorFlow takes its seconds
    _start_tensorflow()
    output = Path(options.output or f"runs/{options.scale}")
    experiments.run(
        options.name,
        options.scale,
        output,
        data_dir=options.data_dir,
        fresh=options.fresh,
    )
    print(f"\nReport: {output / options.name}/report.html")


def _publish(options: argparse.Namespace) -> None:
    from lps_tf import experiments

    names = options.names or experiments.PUBLISHED
    for name in names:
        experiments.find(name)
    _start_tensorflow()
    for name in names:
        path = experiments.publish(
            name,
            options.scale,
            options.runs,
            directory=options.output or "saved_models",
            data_dir=options.data_dir,
        )
        print(f"wrote {path}")


def _certify(options: argparse.Namespace) -> None:
    _start_tensorflow()
    import keras

    import lps_tf as lps
    from lps_tf import certification, datasets

    # First, because the rest takes a while.
    shard = certification.parse_shard(options.shard) if options.shard else None
    source = getattr(datasets, options.data, None)
    if options.data not in datasets.__all__ or not callable(source):
        raise ValueError(
            f"--data must be one of lps_tf.datasets. Received: {options.data}"
        )
    try:
        data = source(**dict(options.option))
    except TypeError as error:  # an option that this source does not have
        raise ValueError(f"--option: {error}") from error
    smoothed = lps.SmoothedClassifier(
        keras.models.load_model(options.classifier),
        keras.models.load_model(options.set),
        options.sigma,
        seed=options.seed,
    )
    report = lps.certify_dataset(
        smoothed,
        data.test,
        options.output,
        perturbed=data.test_groups,
        shard=shard,
        n0=options.n0,
        n=options.n,
        alpha=options.alpha,
        target_radius=options.target_radius,
        share=options.share,
        ignore_class=options.ignore_class,
        limit=options.limit,
        images_per_file=options.images_per_file,
    )
    print(f"{data.name}\n{report}")


def _merge(options: argparse.Namespace) -> None:
    _start_tensorflow()
    from lps_tf import certification

    report = certification.merge(options.directories, options.output)
    report.to_json(Path(options.output) / "report.json")
    print(report)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE. Received: {text}")
    try:
        return name, json.loads(value)
    except ValueError:  # neither a number nor a list: a word
        return name, value


def _import_original(options: argparse.Namespace) -> None:
    _start_tensorflow()
    from lps_tf._internal import files
    from lps_tf.serving import original
    from lps_tf.serving.export import export

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
