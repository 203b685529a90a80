"""The connection's form, for Airflow 3.1; later versions read it from the provider's metadata."""

from __future__ import annotations

from typing import Any

from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE


def field_behaviour() -> dict[str, Any]:
    """Return how the form shows the standard fields."""
    behaviour = CONNECTION_TYPE["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def form_widgets() -> dict[str, Any]:
    """Return the fields of our own."""
    from wtforms import BooleanField, IntegerField, StringField

    widgets = {"integer": IntegerField, "boolean": BooleanField, "string": StringField}
    return {
        name: widgets[field["schema"]["type"][0]](
            field["label"],
            description=field["description"],
            default=field["schema"]["default"],
        )
        for name, field in CONNECTION_TYPE["conn-fields"].items()
    }
