"""What is stored of a scene, photographed or rendered."""

import tensorflow_datasets as tfds

#: Lights of each scene.
LIGHTS = 25


def scene_features(
    height: int, width: int, encoding: str
) -> tfds.features.FeaturesDict:
    """Features of one scene under all lights.

    Args:
        height: Rows of the images.
        width: Columns of the images.
        encoding: Format of the images, "jpeg" or "png"; label maps are PNG.
    """
    image = tfds.features.Image(shape=(height, width, 3), encoding_format=encoding)
    return tfds.features.FeaturesDict(
        {
            "images": tfds.features.Sequence(image, length=LIGHTS),
            "materials": tfds.features.Image(
                shape=(height, width, 1), encoding_format="png", use_colormap=True
            ),
            "scene": tfds.features.Text(),
        }
    )
