"""The one table of options: it covers the configuration, and whoever reads it agrees with the parser."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from onnx_clp.cli.arguments import parse
from onnx_clp.cli.options import main_parser
from onnx_clp.config import CleanConfig
from onnx_clp.config.options import HARMLESS, OF_CONFIG, OPTIONS
from onnx_clp.config.options.option import Option, field_default
from onnx_clp.report.command import words_of


def test_every_field_but_the_one_that_a_rule_stands_for_has_an_option() -> None:
    assert {f.name for f in fields(CleanConfig)} - set(OF_CONFIG) == {"repair"}
    assert parse(["m.onnx", "--rule", "inverted", "--no-config"]).config.repair


def test_no_name_or_field_is_given_twice() -> None:
    names = [name for one in OPTIONS for name in (one.name, one.short) if name]
    assert len(names) == len(set(names))
    assert len(OF_CONFIG) == sum(bool(one.field) for one in OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: one.key)
def test_the_parser_starts_where_the_configuration_does(option: Option) -> None:
    assert main_parser().get_default(option.destination) == option.start
    if option.field:
        wanted = field_default(option.field)
        assert option.value(option.start) == (dict(wanted) if option.form == "shape" else wanted)


VALUES = {
    "u": 2.5,
    "rule": "mad",
    "bound": "exact",
    "fill": "zero",
    "effort": "high",
    "layers": "all",
    "cleanup": "all",
    "provider": "cpu",
    "external_data": "never",
    "include": ("a*", "-b"),
    "exclude": ("c",),
    "sweep": (1.5, 2.0, 2.5),
    "shapes": {"x": (1, 3, 8, 8)},
    "pixel_range": (-1.0, 1.0),
    "bound_activations": 0.0,
    "max_size": 1 << 20,
    "memory": 1 << 21,
    "output_name": "y",
}


@pytest.mark.parametrize("field", sorted(OF_CONFIG))
def test_a_value_written_as_words_is_read_back(field: str) -> None:
    option, start = OF_CONFIG[field], field_default(field)
    value = VALUES.get(field, not start if option.form == "flag" else "d.npz" if option.form == "path" else 0.25)
    value = 3 if option.form == "count" else value
    words = words_of({field: value})
    assert words
    beside = {"calibrate": ["--bound-activations", "2"]}.get(field, [])
    read = getattr(parse(["m.onnx", "--no-config", *words, *beside]).config, field)
    assert (str(read) if option.form == "path" else read) == value


def test_a_value_that_is_the_default_takes_no_words() -> None:
    assert words_of({f.name: getattr(CleanConfig(), f.name) for f in fields(CleanConfig)}) == []


def test_the_page_on_files_lists_what_a_stranger_may_set() -> None:
    page = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text("utf-8")
    listed = page.split("Of the options it may set")[1].split("It may never set")[0]
    assert set(re.findall(r"`([\w-]+)`", listed)) == HARMLESS
