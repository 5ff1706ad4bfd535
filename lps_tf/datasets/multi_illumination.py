"""Multi-Illumination, photographed scenes under 25 lights; `scenes` is its stand-in."""

from pathlib import Path

from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders.prepared import missing
from lps_tf.datasets.lighting import lighting_data
from lps_tf.datasets.pipelines.stored import check_pairing


def multi_illumination(
    mip: int = 5,
    pairing: str = "with_original",
    batch_size: int = 64,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    augment: bool = True,
    seed: int = 0,
) -> PairData:
    """Pairs lights of Multi-Illumination: 1,015 indoor scenes under 25 of them.

    960 scenes to train on, 25 to validate on, 30 of another building to report on; 36
    classes of material. The first call makes images of the given size of the unpacked
    archives and stores them in `data_dir`.

    Args:
        mip: Size of the images: 5 is 125x187, 4 is 250x375, 3 is 500x750.
        pairing: "with_original" pairs two different lights of all, "from_original"
            light 0 and another, "among_perturbed" two of lights 1 to 24.
        batch_size: Size of training batches.
        data_dir: Folder of TFDS, by default TFDS's own.
        manual_dir: The unpacked archives, default `data_dir`/downloads/manual.
        augment: Whether to crop and flip training images.
        seed: Seed of everything random.

    Raises:
        FileNotFoundError: If the data set is neither prepared nor there to prepare.
        ValueError: For another mip or pairing, or if a file of a scene is missing or
            broken.
    """
    from lps_tf.datasets.builders import multi_illumination as builders

    if mip not in builders.SIZES:
        raise ValueError(
            f"`mip` must be one of {sorted(builders.SIZES)}. Received: mip={mip}"
        )
    check_pairing(pairing)
    builder = builders.MultiIllumination(config=f"mip{mip}", data_dir=data_dir)
    manual = builder.data_path.parents[2] / "downloads" / "manual"
    manual = Path(manual_dir or manual).expanduser()
    if not builder.data_path.exists() and not builders.scene_folders(manual):
        raise missing(
            "Multi-Illumination",
            f"{builder.data_path} and in the manual directory, {manual}",
            builders.INSTRUCTIONS,
            "scenes",
        )
    return lighting_data(
        builder,
        f"Multi-Illumination mip {mip}",
        builders.CLASSES,
        manual,
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
    )
