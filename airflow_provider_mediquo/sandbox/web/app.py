"""The FastAPI application: mediQuo's endpoints, the control API, the API docs and the dashboard."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.web import api_docs, control, dashboard, pages, routes
from airflow_provider_mediquo.sandbox.web.dispatch import Observed

DESCRIPTION = "A local mock of mediQuo. Its endpoints need both keys; the control API needs none."


def create_app(mediquo: MediQuo) -> ASGIApp:
    return Observed(APP, mediquo)


def _make_app() -> FastAPI:
    app = FastAPI(
        title="mediQuo sandbox",
        description=DESCRIPTION,
        version="1",
        redirect_slashes=False,
        docs_url=None,  # loads its scripts from a CDN
        redoc_url=None,
    )
    app.include_router(routes.router)
    app.include_router(control.router)
    for path, endpoint in (("/", home), ("/docs", docs), ("/assets/{name}", asset)):
        app.add_route(path, endpoint, ["GET"])
    for status in (404, 405):
        app.add_exception_handler(status, routes.not_found)
    return app


async def home(request: Request) -> Response:
    """Return the dashboard."""
    mediquo = control.mediquo_of(request)
    body = dashboard.render(mediquo, _base_url(request), control.totals(mediquo))
    return pages.page("mediQuo sandbox", body)


async def docs(request: Request) -> Response:
    """Return the API docs."""
    return pages.page(
        "mediQuo sandbox: API", api_docs.render(request.app.openapi(), _base_url(request))
    )


async def asset(request: Request) -> Response:
    """Return what the pages need."""
    name = request.path_params["name"]
    if name not in pages.MEDIA_TYPES:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return pages.asset(name)


def _base_url(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}{routes.BASE_PATH}"


APP = _make_app()  # for all sandboxes of the process, because it takes some milliseconds
