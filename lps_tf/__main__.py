"""The command line: `lps-tf`, or `python -m lps_tf`."""

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lps_tf._internal.arguments import parse
from lps_tf._internal.names import known

if TYPE_CHECKING:
    from lps_tf.datasets import PairData
    from lps_tf.sets.protocol import LatentSet


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    try:
        options = parse(arguments)
        COMMANDS[options.command](options)
    except BrokenPipeError:  # of `lps-tf list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command to go on.", file=sys.stderr)
        return 130
    return 0


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

    print(experiments.list_experiments(options.family or ""))


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


def _compare(options: argparse.Namespace) -> None:
    from lps_tf import experiments

    for name in options.names:
        experiments.find(name)
    _start_tensorflow()
    comparison = experiments.compare(
        options.names,
        options.scale,
        options.output,
        seeds=options.seeds,
        data_dir=options.data_dir,
    )
    print(f"\n{comparison}")


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
    import lps_tf as lps
    from lps_tf import certification

    # All that can be wrong with them, before the data take their time.
    shard = certification.parse_shard(options.shard) if options.shard else None
    smoothed = lps.SmoothedClassifier(
        _load_classifier(options.classifier),
        _load_set(options.set),
        options.sigma,
        seed=options.seed,
    )
    data = _load_data(options)
    report = lps.certify_dataset(
        smoothed,
        data.test,
        options.output,
        perturbed=data.test_groups,
        shard=shard,
        queue=options.queue,
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


def _load_data(options: argparse.Namespace) -> "PairData":
    """The data that `_add_data` asks for."""
    from lps_tf import datasets

    sources = {
        name: getattr(datasets, name)
        for name in datasets.__all__
        if inspect.isfunction(getattr(datasets, name))
    }
    known("--data", options.data, sources)
    source = sources[options.data]
    try:
        return source(**dict(options.option))
    except TypeError as error:  # an option that this source does not have
        raise ValueError(f"--option: {error}") from error


def _load_set(path: str) -> "LatentSet":
    """The set of a file or preset; raises ValueError if it holds something else."""
    import keras

    from lps_tf import PerturbationSet
    from lps_tf.sets.protocol import LatentSet

    if not path.endswith(".keras"):
        return PerturbationSet.from_preset(path)
    model = keras.models.load_model(path)
    if not isinstance(model, LatentSet):
        raise ValueError(
            f"SET must be the file of a perturbation set, and {path} holds none, but a "
            f"{type(model).__name__}. Are SET and CLASSIFIER in each other's place?"
        )
    return model


def _load_classifier(path: str) -> Any:
    """The classifier of a file or preset; raises ValueError if it holds a set."""
    import keras

    from lps_tf._internal import presets
    from lps_tf.sets.protocol import LatentSet

    if not path.endswith(".keras"):
        models, _ = presets.read(path, "RobustClassifier", "SmoothedClassifier")
        return models["classifier"]
    model = keras.models.load_model(path)
    if isinstance(model, LatentSet):
        raise ValueError(
            f"CLASSIFIER must be the file of a classifier, and {path} holds a "
            "perturbation set. Are SET and CLASSIFIER in each other's place?"
        )
    return model


def _explore(options: argparse.Namespace) -> None:
    if options.sigma is not None and options.classifier is None:
        raise ValueError(
            "--sigma smooths a classifier: pass --classifier too. "
            f"Received: --sigma {options.sigma}"
        )
    _start_tensorflow()
    import lps_tf as lps
    from lps_tf.plots import page

    pset: Any = _load_set(options.set)
    classifier: Any = None
    if options.classifier is not None:
        classifier = _load_classifier(options.classifier)
    data = _load_data(options)
    if options.sigma is not None:
        classifier = lps.SmoothedClassifier(classifier, pset, options.sigma)
    images, labels = page.chosen_images(data, options.images)
    path = page.explorer(
        pset,
        images,
        options.output,
        classifier=classifier,
        labels=labels,
        pairs=data.test_pairs,
        class_names=data.class_names,
        radius=options.radius,
        title=f"A perturbation set of {data.name}",
    )
    print(f"wrote {path}")


def _merge(options: argparse.Namespace) -> None:
    _start_tensorflow()
    from lps_tf import certification

    report = certification.merge(options.directories, options.output)
    report.to_json(Path(options.output) / "report.json")
    print(report)


def _import_original(options: argparse.Namespace) -> None:
    _start_tensorflow()
    from lps_tf._internal import files
    from lps_tf.serving import original
    from lps_tf.serving.export import export

    model = original.load_checkpoint(
        options.checkpoint, options.network, **dict(options.size)
    )
    output = Path(options.output)
    paths = (
        files.atomically(output / f"{options.network}.keras", model.save),
        export(model, output / "saved_model"),
    )
    for path in paths:
        print(f"wrote {path}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "list": _list,
    "run": _run,
    "compare": _compare,
    "publish": _publish,
    "certify": _certify,
    "merge": _merge,
    "explore": _explore,
    "import-original": _import_original,
}

if __name__ == "__main__":
    sys.exit(main())
