"""mediQuo's endpoints, as its page on patients describes them."""

from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import APIKeyHeader
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from airflow_provider_mediquo.sandbox.web.dispatch import perform
from airflow_provider_mediquo.sandbox.web.responses import page

BASE_PATH = "/v1"
PATIENT: dict[str, Any] = {
    "code": "jane-unique-id",
    "first_name": "Jane",
    "last_name": "Doe",
    "gender": "female",
    "birth_date": "1980-01-01",
    "tax_id": "123456789",
    "email": "jane@example.com",
    "phone": "+1 202-555-0123",
    "plan": "premium",
    "locale": "en",
    "meta": {"card_id": "1234"},
}


class CodeConvertor(StringConvertor):
    """Whatever is left of the path, slashes and line ends included."""

    regex = "(?s:.+)"


register_url_convertor("code", CodeConvertor())

# Only declared here, for the docs: the keys are checked after the rate limit has counted.
router = APIRouter(
    prefix=BASE_PATH,
    tags=["mediQuo"],
    dependencies=[
        Security(APIKeyHeader(name="X-API-Key", scheme_name="API key", auto_error=False)),
        Security(APIKeyHeader(name="X-Secret-Key", scheme_name="Secret key", auto_error=False)),
    ],
)


def example_body(example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@router.put("/patients", openapi_extra=example_body({"patients": [PATIENT]}))
async def upsert(request: Request) -> Response:
    """Create or update patients: all of them, or none; visible after the lag.

    Left out is unchanged and null is cleared, but without a plan a patient is unsubscribed.
    """
    return await perform(request, "upsert", lambda call: call.mediquo.upsert(call.json()))


@router.get("/patients/{code:code}")
async def get(request: Request, code: str) -> Response:
    """A patient that is visible by now."""
    return await perform(request, "get", lambda call: call.mediquo.get(code))


@router.post("/patients/authenticate", openapi_extra=example_body({"code": PATIENT["code"]}))
async def authenticate(request: Request) -> Response:
    """A token for the widget; here it is made up."""
    return await perform(
        request, "authenticate", lambda call: call.mediquo.authenticate(call.json())
    )


async def not_found(request: Request, error: Exception) -> Response:
    """A web page for whatever is no endpoint: a client takes it for a wrong Base URL."""
    assert isinstance(error, HTTPException)
    request.state.exchange.open("unknown", "unknown")
    return page(error.status_code, error.headers)
