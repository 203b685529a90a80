"""The connection form: declared once, served to Airflow 3.1 by the hook and since then by metadata."""

import json
import sys
from types import SimpleNamespace

import jsonschema
import pytest
from airflow.api_fastapi.core_api.datamodels.connections import ConnectionHookMetaData
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE
from airflow_provider_mediquo.hooks.mediquo import MediquoHook

FIELDS = ("requests_per_minute", "timeout", "verify", "allow_http")
STANDARD = ("login", "password", "host", "port", "url_schema")


SERVE = """
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "mediquo"]
print(form.model_dump_json())
"""


@pytest.fixture(scope="module")
def served(python):
    """What the API server tells the page, from the metadata.

    In a process of its own, for the one of 3.1 has to be the first there to ask for the hooks.
    """
    return ConnectionHookMetaData.model_validate_json(python(SERVE).splitlines()[-1])


@pytest.fixture
def of_the_hook(monkeypatch):
    """What the hook tells Airflow 3.1, which puts stand-ins in the place of wtforms."""
    names = ("BooleanField", "IntegerField", "StringField")
    stand_ins = {name: getattr(HookMetaService, f"Mock{name}") for name in names}
    monkeypatch.setitem(sys.modules, "wtforms", SimpleNamespace(**stand_ins))
    return {
        name: json.loads(json.dumps(widget.param.dump()))
        for name, widget in MediquoHook.get_connection_form_widgets().items()
    }


def test_it_is_called_mediquo(served):
    assert served.hook_name == MediquoHook.hook_name == "mediQuo"
    assert served.connection_type == MediquoHook.conn_type
    assert served.hook_class_name == f"{MediquoHook.__module__}.{MediquoHook.__name__}"


def test_its_standard_fields_have_the_names_that_mediquo_gives_them(served):
    fields = served.standard_fields
    assert (fields.login.title, fields.password.title) == ("API key", "Secret key")
    assert fields.host.title == "Base URL"
    assert fields.host.placeholder == "https://sdk.mediquo.com/v1"
    assert "X-API-Key" in fields.login.placeholder
    assert "X-Secret-Key" in fields.password.placeholder
    assert fields.url_schema.hidden


def test_its_port_is_to_be_seen_for_airflow_cannot_test_a_connection_without(served):
    assert not served.standard_fields.port.hidden
    assert served.standard_fields.port.placeholder == "443"


@pytest.mark.parametrize("name", STANDARD)
def test_both_ways_serve_the_same_standard_fields(served, name):
    of_the_hook = HookMetaService._make_standard_fields(MediquoHook.get_ui_field_behaviour())
    assert getattr(of_the_hook, name) == getattr(served.standard_fields, name)


def test_both_ways_serve_the_same_fields_of_our_own(served, of_the_hook):
    assert tuple(of_the_hook) == tuple(served.extra_fields) == FIELDS


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("part", ["title", "type"])
def test_with_the_same_schema(served, of_the_hook, name, part):
    ours = of_the_hook[name]["schema"][part]
    assert ours == served.extra_fields[name]["schema"][part]
    assert ours


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("part", ["description", "value"])
def test_with_the_same_description_and_default(served, of_the_hook, name, part):
    ours = of_the_hook[name][part]
    assert ours == served.extra_fields[name][part]
    assert ours not in (None, "") or (name, part) == ("verify", "value")


@pytest.mark.parametrize("name", FIELDS)
def test_a_default_is_what_the_settings_take_it_for(name):
    from airflow_provider_mediquo.api.client.settings import Settings

    field = CONNECTION_TYPE["conn-fields"][name]
    jsonschema.validate(field["schema"]["default"], field["schema"])
    default = str(Settings.__dataclass_fields__[name].default).lower().removesuffix(".0")
    assert str(field["schema"]["default"]).lower() == ("none" if name == "verify" else default)
    assert name == "allow_http" or f" Default: {default}." in field["description"]


@pytest.mark.parametrize("name", ["requests_per_minute", "timeout"])
def test_a_number_is_taken_where_the_settings_take_it(name):
    from airflow_provider_mediquo.api.client.settings import Settings
    from airflow_provider_mediquo.api.errors import ConnectionSettingsError

    schema = CONNECTION_TYPE["conn-fields"][name]["schema"]
    for bound, step in (("minimum", -1), ("maximum", 1)):
        settings = Settings("key", "secret", **{name: schema[bound]})
        assert getattr(settings, name) == schema[bound]
        with pytest.raises(ConnectionSettingsError):
            Settings("key", "secret", **{name: schema[bound] + step})


def test_what_is_either_true_or_false_is_a_switch(served):
    assert served.extra_fields["allow_http"]["schema"]["type"] == ["boolean", "null"]


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_may_be_left_blank(name):
    jsonschema.validate(None, CONNECTION_TYPE["conn-fields"][name]["schema"])
