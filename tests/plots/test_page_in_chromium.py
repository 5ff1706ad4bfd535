"""The page in a real browser: what is shown is what `perturb` gives at that place."""

import json

import numpy as np
import pytest

import lps_tf as lps
from lps_tf.plots.members import principal_directions
from tests.plots.browser import chromium, requests, resize

# Chromium takes seconds to start, and so does the attack to compile.
pytestmark = pytest.mark.slow

NAMES = ("cat", "dog", "a rather long name")
STEP = 2 * 2.0 / 14  # of a grid of 15 over the ball of radius 2


@pytest.fixture(scope="module")
def driver():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tiny_set, tiny_classifier, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    lps.plots.explorer(
        tiny_set,
        images[:3],
        path,
        classifier=tiny_classifier,
        labels=[0, 1, 2],
        pairs=(images, images[::-1]),
        class_names=NAMES,
        directions=4,
        verbose=False,
    )
    return path.as_uri()


@pytest.fixture
def page(driver, address):
    """The page, just loaded, on a wide screen."""
    resize(driver, 1280)
    driver.get("about:blank")
    driver.get_log("browser"), requests(driver)
    driver.get(address)
    wait_until(driver, "return document.body.dataset.ready === 'yes'")
    return driver


def wait_until(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 20).until(lambda d: d.execute_script(condition))


def find(driver, selector):
    return driver.find_element("css selector", selector)


def pixels(driver, name="member"):
    """The grey image that a canvas shows, (height, width), in [0, 1]."""
    height, width, values = driver.execute_script(
        "const c = document.getElementById(arguments[0]);"
        "return [c.height, c.width, Array.from("
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]",
        name,
    )
    rgba = np.reshape(values, (height, width, 4)) / 255
    assert (rgba[..., 3] == 1).all()
    np.testing.assert_array_equal(rgba[..., 0], rgba[..., 1])
    return rgba[..., 0]


def shown(driver, tiny_set, images, number=0):
    """Coordinates of the member shown, after comparing it with what the set decodes."""
    at = json.loads(find(driver, "#member").get_attribute("data-coordinates"))
    vectors = principal_directions(tiny_set, images[:3], 2.0, 4).vectors
    u = np.float32(at @ vectors)[None]
    expected = tiny_set.perturb(images[number : number + 1], u).numpy()[0, ..., 0]
    found = pixels(driver)
    np.testing.assert_allclose(found, expected, atol=1 / 255)
    # The picture is no other one: that of the centre differs by more.
    centre = tiny_set.perturb(images[number : number + 1], 0 * u).numpy()[0, ..., 0]
    assert not np.any(at) or np.abs(found - centre).max() > 3 / 255
    return pytest.approx(at, abs=1e-3)


def place(driver, x, y):
    """Where on the screen a place of the disc is, in radii."""
    return driver.execute_script(
        "const s = document.getElementById('plane');"
        "s.scrollIntoView({block: 'center'});"
        "const p = new DOMPoint(arguments[0], -arguments[1])"
        ".matrixTransform(s.getScreenCTM());"
        "return [p.x, p.y]",
        x,
        y,
    )


def test_it_loads_without_errors_and_asks_for_nothing_else(page, address):
    assert page.get_log("browser") == []
    # Pictures are inside of it; a network is never asked.
    asked = requests(page)
    assert asked[0] == address
    assert all(url.startswith("data:") for url in asked[1:])


def test_its_own_policy_refuses_requests(page):
    page.execute_script("const i = new Image(); i.src = 'http://127.0.0.1:9/a.png'")
    wait_until(page, "return performance.now() > 0")
    errors = [entry["message"] for entry in page.get_log("browser")]
    assert any("Content Security Policy" in message for message in errors)


def test_an_image_is_chosen(page, tiny_set, images):
    assert shown(page, tiny_set, images) == [0, 0, 0, 0]
    choices = page.find_elements("css selector", "#images input")
    assert len(choices) == 3
    choices[2].click()
    assert shown(page, tiny_set, images, 2) == [0, 0, 0, 0]
    np.testing.assert_allclose(pixels(page, "image"), images[2, ..., 0], atol=1 / 255)
    assert "image 3" in find(page, "#member").get_attribute("aria-label")
    assert "a rather long name" in find(page, "#verdict").text


def test_the_worst_member_is_that_of_the_attack(
    page, tiny_set, tiny_classifier, images
):
    attack = lps.LatentAPGD(tiny_set, radius=2.0)
    u = attack.run(tiny_classifier, images[:3], [0, 1, 2]).u[0]
    expected = tiny_set.perturb(images[:3], u).numpy()
    for number, choice in enumerate(
        page.find_elements("css selector", "#images input")
    ):
        choice.click()
        np.testing.assert_allclose(
            pixels(page, "worst"), expected[number, ..., 0], atol=1 / 255
        )


def test_arrow_keys_move_in_the_disc(page, tiny_set, images):
    from selenium.webdriver.common.keys import Keys

    plane = find(page, "#plane")
    plane.send_keys(Keys.ARROW_RIGHT * 3 + Keys.ARROW_UP)
    assert shown(page, tiny_set, images) == [3 * STEP, STEP, 0, 0]
    plane.send_keys(Keys.ARROW_LEFT + Keys.ARROW_DOWN * 2)
    assert shown(page, tiny_set, images) == [2 * STEP, -STEP, 0, 0]
    plane.send_keys(Keys.ARROW_RIGHT * 9)  # to the edge, where nothing is beyond
    assert shown(page, tiny_set, images) == [2, 0, 0, 0]
    plane.send_keys(Keys.HOME)
    assert shown(page, tiny_set, images) == [0, 0, 0, 0]


def test_sliders_move_along_directions(page, tiny_set, images):
    from selenium.webdriver.common.keys import Keys

    sliders = page.find_elements("css selector", "#sliders input")
    assert len(sliders) == 4
    sliders[0].send_keys(Keys.ARROW_RIGHT * 2)
    sliders[1].send_keys(Keys.ARROW_LEFT)
    assert shown(page, tiny_set, images) == [2 * STEP, -STEP, 0, 0]
    for number in (2, 3):  # one direction at a time, from the centre
        sliders[number].send_keys(Keys.ARROW_LEFT * 3)
        expected = [0, 0, 0, 0]
        expected[number] = -3 * STEP
        assert shown(page, tiny_set, images) == expected
    values = [slider.get_attribute("value") for slider in sliders]
    assert values == ["7", "7", "7", "4"]
    sliders[3].send_keys(Keys.ARROW_RIGHT * 7)
    assert shown(page, tiny_set, images) == [0, 0, 0, 4 * STEP]
    find(page, "#centre").click()
    assert shown(page, tiny_set, images) == [0, 0, 0, 0]


def mouse(page, kind, x, y, button="none"):
    event = {"type": kind, "x": x, "y": y, "button": button, "clickCount": 1}
    page.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def test_the_disc_is_dragged_with_a_mouse(page, tiny_set, images):
    mouse(page, "mousePressed", *place(page, -0.3, 0.4), "left")
    mouse(page, "mouseMoved", *place(page, 4 / 7, -2 / 7), "left")  # on a member
    assert shown(page, tiny_set, images) == [4 * STEP, -2 * STEP, 0, 0]
    # Beyond the circle, and even outside of the drawing: the nearest member inside.
    mouse(page, "mouseMoved", *place(page, -1.4, 0.02), "left")
    assert shown(page, tiny_set, images) == [-2, 0, 0, 0]
    mouse(page, "mouseReleased", *place(page, -1.4, 0.02), "left")
    mouse(page, "mouseMoved", *place(page, 0, 0.5))  # no button is down any more
    assert shown(page, tiny_set, images) == [-2, 0, 0, 0]


def touch(page, kind, *at):
    points = [{"x": at[0], "y": at[1]}] if at else []
    page.execute_cdp_cmd(
        "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
    )


def test_the_disc_is_dragged_with_a_finger_on_a_telephone(page, tiny_set, images):
    resize(page, 390, 844, touch=True)
    touch(page, "touchStart", *place(page, 0, 0))
    assert shown(page, tiny_set, images) == [0, 0, 0, 0]
    before = page.execute_script("return scrollY")
    touch(page, "touchMove", *place(page, -2 / 7, 0.2))
    touch(page, "touchMove", *place(page, -2 / 7, 5 / 7))
    touch(page, "touchEnd")
    assert shown(page, tiny_set, images) == [-2 * STEP, 5 * STEP, 0, 0]
    assert page.execute_script("return scrollY") == before  # it did not scroll


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    resize(page, width, touch=width < 500)
    whole = page.execute_script("return document.documentElement.scrollWidth")
    assert whole <= width
    boxes = page.execute_script(
        "return Array.from(document.querySelectorAll("
        "'h1, p, canvas, svg#plane, #sliders input, button, legend')).map(e => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.right]})"
    )
    assert len(boxes) > 15
    assert all(left >= 0 and right <= width + 0.5 for left, right in boxes)


def test_everything_has_a_name_and_is_reached_by_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    for element in page.find_elements("css selector", "canvas[role], svg#plane"):
        assert element.get_attribute("aria-label")
    controls = page.find_elements("css selector", "input, button")
    names = [control.accessible_name for control in controls]
    assert names[:3] == [f"Image {i + 1}, class {name}" for i, name in enumerate(NAMES)]
    assert all(f"Direction {i + 1}" in names[3 + i] for i in range(4))
    assert names[7:] == ["Back to the centre"]
    reached = []
    for _ in range(7):
        page.switch_to.active_element.send_keys(Keys.TAB)
        active = page.switch_to.active_element
        reached.append(active.get_attribute("type") or active.get_attribute("id"))
    assert reached == ["radio", "plane", *["range"] * 4, "button"]


def contrast(one, other):
    """Ratio of relative luminances, as the accessibility guidelines define it."""

    def luminance(colour):
        c = np.array(colour) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_text_is_dark_on_light(page):
    colours = page.execute_script(
        "return Array.from(document.querySelectorAll("
        "'p, h1, h2, figcaption, small, li, legend, button, output')).map(e =>"
        "getComputedStyle(e).color.match(/\\d+/g).slice(0, 3).map(Number))"
    )
    assert len(colours) > 20
    assert min(contrast(colour, (255, 255, 255)) for colour in colours) > 7
