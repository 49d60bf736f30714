"""The colours of words: told apart from each other and from the page, also by people who see fewer colours."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from scgpt_infer.report.colouring import TONES

# Linear red, green, blue as seen without the cones for middle or long wavelengths: Machado, Oliveira, Fernandes 2009.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
# OKLab: Ottosson 2020.
CONES = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566))
CONES = (*CONES, (0.0883024619, 0.2817188376, 0.6299787005))
LAB = ((0.2104542553, 0.793617785, -0.0040720468), (1.9779984951, -2.428592205, 0.4505937099))
LAB = (*LAB, (0.0259040371, 0.7827717662, -0.808675766))


def linear(hexes):
    signs = np.array([[int(sign[place : place + 2], 16) / 255 for place in (1, 3, 5)] for sign in hexes])
    return np.where(signs <= 0.04045, signs / 12.92, ((signs + 0.055) / 1.055) ** 2.4)


def oklab(light):
    return np.cbrt(light @ np.transpose(CONES)) @ np.transpose(LAB)


def apart(light):
    return min(np.linalg.norm(one - other) for one, other in combinations(oklab(light), 2))


def luminance(light):
    return light @ (0.2126, 0.7152, 0.0722)


@pytest.fixture(params=["light", "dark"])
def colours(request):
    """Colours by name, as a theme has them."""
    found = {}
    for package, sheet in (("pages", "style.css"), ("report", "report.css")):
        light, dark = files(f"scgpt_infer.{package}").joinpath(sheet).read_text().split("prefers-color-scheme: dark", 1)
        for rules in (light, dark.split("}")[0])[: 1 + (request.param == "dark")]:
            found |= dict(re.findall(r"--(\w+): (#\w{6})", rules))
    return found


@pytest.fixture
def tones(colours):
    """(n_colours, 3) of words."""
    return linear([colours[f"c{place}"] for place in range(TONES)])


@pytest.mark.parametrize(("first", "normal", "without_a_cone"), [(8, 0.18, 0.09), (TONES, 0.11, 0.06)])
def test_any_two_colours_of_words_differ(tones, first, normal, without_a_cone):
    assert apart(tones[:first]) > normal
    for blindness in (DEUTERANOPIA, PROTANOPIA):
        assert apart(np.clip(tones[:first] @ np.transpose(blindness), 0, 1)) > without_a_cone


def test_what_is_unknown_looks_like_no_label(tones, colours):
    assert apart(np.vstack([tones, linear([colours["unknown"]])])) > 0.09


def test_every_colour_stands_out_from_the_page(tones, colours):
    (card,) = luminance(linear([colours["card"]]))
    lights = luminance(np.vstack([tones, linear([colours["unknown"], colours["low"], colours["high"]])]))
    contrast = (np.maximum(lights, card) + 0.05) / (np.minimum(lights, card) + 0.05)
    assert contrast.min() > 1.6


def test_the_scale_of_numbers_goes_one_way_in_lightness(colours):
    lights = oklab(linear([colours["low"], colours["mid"], colours["high"]]))[:, 0]
    assert abs(lights[2] - lights[0]) > 0.12
    assert min(np.diff(lights) * np.sign(lights[2] - lights[0])) > 0.02
