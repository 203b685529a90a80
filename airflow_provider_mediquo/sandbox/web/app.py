"""The FastAPI application: mediQuo's endpoints, the control API, the API docs and the dashboard."""

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.web import control, dashboard, routes
from airflow_provider_mediquo.sandbox.web.dispatch import Observed

DESCRIPTION = """A local mock of mediQuo. Press *Authorize* and enter both keys to try its endpoints;
the control API needs no keys. This page loads its scripts from a CDN; `/openapi.json` does not."""


def create_app(mediquo: MediQuo) -> FastAPI:
    app = FastAPI(
        title="mediQuo sandbox",
        description=DESCRIPTION,
        version="1",
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.mediquo = mediquo
    app.include_router(routes.router)
    app.include_router(control.router)
    app.add_api_route("/", home, include_in_schema=False, response_class=HTMLResponse)
    for status in (404, 405):
        app.add_exception_handler(status, routes.not_found)
    app.add_middleware(Observed, mediquo=mediquo)
    return app


async def home(request: Request) -> HTMLResponse:
    mediquo = control.mediquo_of(request)
    base_url = f"{str(request.base_url).rstrip('/')}{routes.BASE_PATH}"
    return HTMLResponse(dashboard.render(mediquo, base_url, control.totals(mediquo)))
