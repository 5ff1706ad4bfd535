"""Pages and cards out of the templates that lie beside the code that fills them."""

import base64

import jinja2


def environment(package: str, autoescape: bool) -> jinja2.Environment:
    """What finds the templates in the folder `templates` of a package.

    Args:
        package: Name of the package, such as "lps_tf.experiments".
        autoescape: Whether values are escaped, as HTML needs.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def base64_of(content: bytes) -> str:
    """Content of a file as text, for a `data:` address."""
    return base64.b64encode(content).decode()
