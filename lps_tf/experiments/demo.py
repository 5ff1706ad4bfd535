"""The main job on real digits: from pairs to a robust, certified, exported classifier.

`python -m lps_tf demo` runs it; every stage lands in the output folder and is not
done again by the next run.
"""

import base64
import dataclasses
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jinja2
import keras
import numpy as np

import lps_tf as lps
from lps_tf._internal import files
from lps_tf._internal.progress import EpochBar
from lps_tf.experiments.stages import Run
from lps_tf.networks.classifiers import small_cnn
from lps_tf.training.backup import Backup
from lps_tf.training.schedules import PiecewiseLinear


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the demo's figures depend on."""

    scale: str
    latent_dim: int = 32
    transformers: int = 3
    localisation: tuple[int, int] = (128, 64)
    set_epochs: int = 200
    set_learning_rate: float = 1e-3
    classifier_epochs: int = 30
    classifier_learning_rate: float = 2e-3
    group: int = 10  # true perturbations of each test digit
    attack_steps: int = 20
    quality_steps: int = 50
    quality_batches: int | None = None
    sigma: float = 0.5
    certified_images: int = 100
    n0: int = 100
    n: int = 1000
    alpha: float = 1e-3
    seed: int = 0


FULL = Settings("full")
#: Every stage, none of them long enough for good figures: what the tests run.
QUICK = Settings(
    "quick",
    latent_dim=8,
    transformers=1,
    localisation=(16, 8),
    set_epochs=4,
    classifier_epochs=1,
    attack_steps=3,
    quality_steps=3,
    quality_batches=1,
    certified_images=5,
    n=200,
)

CLASSIFIERS = {
    "plain": "plain",
    "rts_augmented": "true RTS augmentation",
    "cvae_augmented": "CVAE augmentation",
    "cvae_adversarial": "CVAE adversarial",
    "noise": "CVAE noise",
}


def run(output: str | Path, settings: Settings = FULL, fresh: bool = False) -> dict:
    """Runs the demo, or what is left of it.

    Args:
        output: folder for metrics.json, report.html, pictures and models.
        settings: scale of the demo.
        fresh: whether to start over.

    Returns:
        What metrics.json holds.
    """
    demo = _Demo(Run(output, dataclasses.asdict(settings), fresh), settings)
    return demo.run()


class _Demo:
    def __init__(self, run: Run, settings: Settings):
        self.folder, self.settings = run, settings
        self.data = lps.datasets.digits_rts(
            batch_size=128, group_size=settings.group, seed=settings.seed
        )
        # Classifiers train on smaller batches; the images are the same.
        self.small = lps.datasets.digits_rts(batch_size=64, seed=settings.seed)
        # One network serves all five classifiers in turn, so that what TensorFlow
        # compiles for it is compiled once.
        keras.utils.set_random_seed(settings.seed)
        self._network = small_cnn(self.data.image_shape, self.data.num_classes)
        self._start = self._network.get_weights()
        self._set: lps.PerturbationSet | None = None

    def run(self) -> dict:
        stage = self.folder.stage
        stage("learn", self.learn)
        measures = stage("quality", self.quality)
        classifiers = {}
        for name in CLASSIFIERS:
            stage(f"train_{name}", lambda name=name: self.train(name))
            classifiers[name] = stage(
                f"evaluate_{name}", lambda name=name: self.evaluate(name)
            )
        certified = stage("certify", self.certify)
        saved_models = stage("export", self.export)
        metrics = {
            "data": self.data.name,
            "scale": self.settings.scale,
            "seconds": sum(self.folder.seconds.values()),
            "seconds_by_stage": self.folder.seconds,
            "perturbation_set": measures,
            "classifiers": classifiers,
            "certified": certified,
            "saved_models": saved_models,
            "settings": dataclasses.asdict(self.settings),
        }
        files.write_json(self.folder / "metrics.json", metrics)
        files.write_text(self.folder / "report.html", self.report(metrics))
        return metrics

    @property
    def perturbation_set(self) -> lps.PerturbationSet:
        if self._set is None:
            self._set = keras.models.load_model(self.folder / "models/digits_rts.keras")
        return self._set

    def classifier(self, name: str) -> keras.Model:
        saved = keras.models.load_model(self.folder / f"models/{name}.keras")
        self._network.set_weights(saved.get_weights())
        return self._network

    def learn(self) -> dict:
        """Fits the perturbation set and calibrates it on validation pairs."""
        s, data = self.settings, self.data
        keras.utils.set_random_seed(s.seed)
        pset = lps.PerturbationSet.from_network(
            "mnist_stn",
            latent_dim=s.latent_dim,
            transformers=s.transformers,
            localisation=s.localisation,
        )
        epochs, steps = s.set_epochs, len(data.train_pairs)
        # The paper's schedules for RTS, their epochs scaled to this run.
        rate = [0, s.set_learning_rate, 0]
        pset.compile(
            keras.optimizers.Adam(
                PiecewiseLinear([0, 0.4 * epochs, epochs], rate, steps)
            ),
            beta=PiecewiseLinear(
                [0, 0.1 * epochs, 0.5 * epochs, epochs], [0, 0.01, 1, 1]
            ),
        )
        history = pset.fit(
            data.train_pairs,  # with fresh draws in each epoch
            validation_data=data.val_pairs,
            validation_freq=max(1, epochs // 5),
            epochs=epochs,
            verbose=0,
            callbacks=[Backup(self.folder / "backup"), EpochBar(epochs)],
        ).history
        pset.calibrate(data.val_pairs, quantile="max")
        files.atomically(self.folder / "models/digits_rts.keras", pset.save)
        return {
            "steps": epochs * steps,
            "parameters": pset.count_params(),
            "calibration": pset.calibration,
            "history": {k: v[-1] for k, v in history.items()},
        }

    def quality(self) -> dict:
        """The measures of section 4 on test pairs, and the pictures."""
        s, pset = self.settings, self.perturbation_set
        pairs = self.data.test_pairs
        if s.quality_batches:
            pairs = pairs.take(s.quality_batches)
        report = lps.quality.evaluate(pset, pairs, steps=s.quality_steps, seed=s.seed)
        report.plot(self.folder / "pictures")
        print(report)
        return {
            **json.loads(report.to_json()),
            "norm_quantiles": pset.calibration["quantiles"],
            "calibration": pset.calibration,
        }

    def train(self, name: str) -> dict:
        """Trains one classifier; all of them from the same start."""
        s, pset = self.settings, self.perturbation_set
        keras.utils.set_random_seed(s.seed)
        classifier = self._network
        classifier.set_weights(self._start)
        median = pset.calibration["quantiles"]["50%"]
        perturbation = {
            "plain": None,
            "rts_augmented": None,
            "cvae_augmented": lps.LatentAugmentation(pset),
            "cvae_adversarial": lps.LatentPGD(pset, radius=median, steps=7),
            "noise": lps.LatentNoise(pset, s.sigma),
        }[name]
        train = self.small.train
        if name == "rts_augmented":
            train = self.small.train_perturbed
        epochs = s.classifier_epochs
        rate = PiecewiseLinear(
            [0, 0.4 * epochs, epochs], [0, s.classifier_learning_rate, 0], len(train)
        )
        robust = lps.RobustClassifier(classifier, perturbation)
        robust.compile(keras.optimizers.Adam(rate))
        history = robust.fit(
            train, epochs=epochs, verbose=0, callbacks=[EpochBar(epochs)]
        ).history
        files.atomically(self.folder / f"models/{name}.keras", classifier.save)
        return {k: v[-1] for k, v in history.items()}

    def evaluate(self, name: str) -> dict:
        """Accuracy: clean, true RTS, latent APGD at the quartiles and the radius."""
        s, pset = self.settings, self.perturbation_set
        quantiles = pset.calibration["quantiles"]
        report = lps.evaluate_robustness(
            self.classifier(name),
            self.data,
            lps.LatentAPGD(pset, steps=s.attack_steps, seed=s.seed),
            [*(quantiles[q] for q in ("25%", "50%", "75%")), pset.radius],
            directory=self.folder / f"evaluations/{name}",
            verbose=False,
        )
        accuracy = {name: row.accuracy for name, row in report.rows.items()}
        result = {
            "clean": accuracy["clean"],
            "rts_mean": accuracy["perturbed/mean"],
            "rts_worst": accuracy["perturbed/worst"],
            "apgd": {
                name.removeprefix("attack/"): value
                for name, value in accuracy.items()
                if name.startswith("attack/")
            },
        }
        print("  ", result)
        return result

    @property
    def smoothed(self) -> lps.SmoothedClassifier:
        s = self.settings
        return lps.SmoothedClassifier(
            self.classifier("noise"), self.perturbation_set, s.sigma, seed=s.seed
        )

    def certify(self) -> dict:
        """Certified accuracy of the smoothed classifier trained on noise."""
        s = self.settings
        report = lps.certify_dataset(
            self.smoothed,
            self.data.test,
            self.folder / "certificates",
            n0=s.n0,
            n=s.n,
            alpha=s.alpha,
            limit=s.certified_images,
        )
        at = [factor * s.sigma for factor in (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5)]
        return {
            "sigma": s.sigma,
            "images": report.images,
            "n0": s.n0,
            "n": s.n,
            "alpha": s.alpha,
            "accuracy_at": {
                f"{radius:g}": accuracy
                for radius, accuracy in zip(
                    at, report.certified_accuracy(at).tolist(), strict=True
                )
            },
            "abstained": report.abstained,
        }

    def export(self) -> dict:
        """SavedModels, reloaded in a process that cannot import this package."""
        s, pset = self.settings, self.perturbation_set
        folder = self.folder / "saved_models"
        x = next(iter(self.data.test))[0].numpy()[:4]
        u = np.random.RandomState(s.seed).randn(len(x), pset.latent_dim)
        lps.export(pset, folder / "perturbation_set")
        robust = self.classifier("cvae_adversarial")
        lps.export(robust, folder / "classifier")
        check = {
            "x": x,
            "u": u.astype(np.float32),
            "perturbed": pset.perturb(x, u),
            "logits": robust(x),
        }
        smooth = self.smoothed
        lps.export(smooth, folder / "smoothed")
        found = smooth.certify(x, n0=s.n0, n=s.n, alpha=s.alpha, verbose=False)
        check |= {
            "prediction": found.prediction,
            "radius": found.radius,
            "n": np.array([s.n0, s.n, s.seed], np.int32),
            "alpha": np.array(s.alpha),
        }
        files.atomically(folder / "check.npz", lambda path: np.savez(path, **check))
        script = (
            resources.files("lps_tf.experiments")
            / "templates"
            / "check_saved_models.py"
        )
        outcome = subprocess.run(
            [sys.executable, "-I", str(script), str(folder.resolve())],
            capture_output=True,
            text=True,
        )
        if outcome.returncode:
            raise RuntimeError(f"The SavedModels do not reload:\n{outcome.stderr}")
        differences = json.loads(outcome.stdout.splitlines()[-1])
        return {
            "folders": ["perturbation_set", "classifier", "smoothed"],
            "megabytes": {
                name: sum(
                    f.stat().st_size for f in (folder / name).rglob("*") if f.is_file()
                )
                / 1e6
                for name in ("perturbation_set", "classifier", "smoothed")
            },
            "largest_difference_after_reload": differences,
        }

    def report(self, metrics: dict) -> str:
        """One self-contained page."""
        pictures = {
            path.stem: base64.b64encode(path.read_bytes()).decode()
            for path in sorted((self.folder / "pictures").glob("*.png"))
        }
        for name, figure in self._curves(metrics).items():
            pictures[name] = base64.b64encode(lps.plots.png(figure)).decode()
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("lps_tf.experiments"), autoescape=True
        )
        template = environment.get_template("demo.html")
        return template.render(
            m=metrics, pictures=pictures, titles=CLASSIFIERS, version=lps.__version__
        )

    def _curves(self, metrics: dict) -> dict:
        attacked = {
            CLASSIFIERS[name]: list(values["apgd"].values())
            for name, values in metrics["classifiers"].items()
        }
        radii = [float(r) for r in metrics["classifiers"]["plain"]["apgd"]]
        certified = metrics["certified"]["accuracy_at"]
        return {
            "attacked": lps.plots.curves(
                radii, attacked, "radius of the latent attack", "accuracy"
            ),
            "certified": lps.plots.curves(
                [float(r) for r in certified],
                {f"sigma {metrics['certified']['sigma']:g}": list(certified.values())},
                "certified latent radius",
                "certified accuracy",
            ),
        }
