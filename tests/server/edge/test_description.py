"""Schemas of shapes, as pages show them: whole, and in forms without null."""

import json
from typing import Literal

from server.edge import fields
from server.edge.description import FILE, as_form, schema_of, takes


class Inner(fields.Shape):
    colour: Literal["red", "blue"] | None = None


class Outer(fields.Shape):
    inner: Inner
    more: list[Inner] | None = None
    side: fields.Pixels | None = None
    image: str


def test_a_described_shape_has_no_references():
    described = json.dumps(schema_of(Outer))
    assert "$ref" not in described
    assert "$defs" not in described
    assert '"colour"' in described


def test_a_form_has_files_and_no_nulls():
    form = as_form(schema_of(Outer), {"image": FILE, "mask": FILE}, optional=("mask",))
    assert form["required"] == ["inner", "image"]
    properties = form["properties"]
    assert properties["image"] == properties["mask"] == FILE
    assert properties["more"]["type"] == "array"
    assert [kind["type"] for kind in properties["side"]["anyOf"]] == ["string", "integer"]
    content = takes(form=form)["requestBody"]["content"]["multipart/form-data"]
    assert content == {"schema": form}


def test_what_may_be_chosen_from_is_never_null_in_a_form():
    schema = {"properties": {"style": {"enum": ["a", None], "default": None}}}
    assert as_form(schema, {})["properties"]["style"] == {"enum": ["a"]}
