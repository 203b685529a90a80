"""The FastAPI application: mediQuo's endpoints, the sandbox's own, the docs and the page."""

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from airflow_provider_mediquo.sandbox.model.service import MediQuo
from airflow_provider_mediquo.sandbox.web import control
from airflow_provider_mediquo.sandbox.web import dashboard as page
from airflow_provider_mediquo.sandbox.web import routes as api
from airflow_provider_mediquo.sandbox.web.dispatch import Observed

DESCRIPTION = """A local mediQuo. Press *Authorize* and enter both keys to try its endpoints;
the sandbox's own need none. This page loads its scripts from a CDN; `/openapi.json` does not."""


def create_app(mediquo: MediQuo) -> FastAPI:
    app = FastAPI(
        title="mediQuo sandbox",
        description=DESCRIPTION,
        version="1",
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.mediquo = mediquo
    app.include_router(api.router)
    app.include_router(control.router)
    app.add_api_route("/", home, include_in_schema=False, response_class=HTMLResponse)
    for status in (404, 405):
        app.add_exception_handler(status, api.not_found)
    app.add_middleware(Observed, mediquo=mediquo)
    return app


async def home(request: Request) -> HTMLResponse:
    mediquo = control.mediquo_of(request)
    base_url = f"{str(request.base_url).rstrip('/')}{api.BASE_PATH}"
    return HTMLResponse(page.render(mediquo, base_url, control.totals(mediquo)))
