"""Certifies a data set with Ray: `python certify_with_ray.py RUN`, 4 workers.

RUN is a folder that all workers see, with classifier.keras and set.keras.
"""

import sys
from pathlib import Path

import ray


@ray.remote(num_cpus=1, max_retries=3)
def certify(run: Path, options: dict) -> None:
    """Certifies images that no other worker has taken, until none are left."""
    import keras

    import lps_tf as lps

    data = lps.datasets.mnist5k_rts()
    smooth = lps.SmoothedClassifier(
        keras.models.load_model(run / "classifier.keras"),
        keras.models.load_model(run / "set.keras"),
        sigma=1.0,
    )
    lps.certify_dataset(
        smooth,
        data.test,
        run / "certificates",
        perturbed=data.test_groups,  # how many of them the certificates reach
        queue=True,
        verbose=False,
        **options,
    )


def main(run: Path, workers: int = 4, **options) -> None:
    """Runs the workers, and writes the report of all of them."""
    from lps_tf import CertificationReport

    ray.get([certify.remote(run, options) for _ in range(workers)])
    report = CertificationReport.load(run / "certificates")
    report.to_json(run / "certificates" / "report.json")
    print(report)


if __name__ == "__main__":
    ray.init()
    main(Path(sys.argv[1]).resolve())
