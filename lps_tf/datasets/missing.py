"""The one error for every data set that is not on this machine."""


def missing(name: str, where: str, how: str, stand_in: str) -> FileNotFoundError:
    """An error to raise, because nothing downloads silently.

    Args:
        name: of the data set.
        where: it was looked for.
        how: to get it: a command, or what to do.
        stand_in: functions of `lps_tf.datasets` that need no download.
    """
    return FileNotFoundError(
        f"{name} is not on this machine; looked for it in {where}. To get it: {how}. "
        f"Without a download, use the offline stand-in: {stand_in} of lps_tf.datasets."
    )
