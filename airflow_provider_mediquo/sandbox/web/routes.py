"""mediQuo's endpoints, as in its documentation of patients."""

from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import APIKeyHeader
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from airflow_provider_mediquo.sandbox.web.dispatch import perform
from airflow_provider_mediquo.sandbox.web.responses import web_page

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
    """The rest of the path, including slashes and line ends."""

    regex = "(?s:.+)"


register_url_convertor("code", CodeConvertor())

# Only declared here, for the API docs: the keys are checked after the rate limit.
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
    """Create or update patients: all or none; visible after the lag.

    A missing field stays unchanged, a null clears it; a missing plan unsubscribes the patient.
    """
    return await perform(request, "upsert", lambda call: call.mediquo.upsert(call.json()))


@router.get("/patients/{code:code}")
async def get(request: Request, code: str) -> Response:
    """Return a patient that is visible."""
    return await perform(request, "get", lambda call: call.mediquo.get(code))


@router.post("/patients/authenticate", openapi_extra=example_body({"code": PATIENT["code"]}))
async def authenticate(request: Request) -> Response:
    """Return a token for the widget, here a made-up one."""
    return await perform(
        request, "authenticate", lambda call: call.mediquo.authenticate(call.json())
    )


async def not_found(request: Request, error: Exception) -> Response:
    """Return a web page for any other path: to a client it means a wrong Base URL."""
    assert isinstance(error, HTTPException)
    request.state.exchange.open("unknown", "unknown")
    return web_page(error.status_code, error.headers)
