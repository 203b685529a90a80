"""The headers of every request, and what an error must not keep of it."""

from __future__ import annotations

import ssl
import traceback
from http.cookiejar import DefaultCookiePolicy

import requests

from airflow_provider_mediquo import __version__
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.client.transport import BoundedAdapter

_USER_AGENT = f"airflow-provider-mediquo/{__version__}"


def new_session(settings: Settings, aborted: StopFlag) -> requests.Session:
    """Return a session, for one thread, that sends both keys and follows no redirects.

    :param aborted: once set, ends the responses in progress.
    """
    session = _Session()
    session.auth = _Keys(settings)
    session.headers.update(
        {
            "User-Agent": _USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("https://", "http://"):
        session.mount(scheme, BoundedAdapter(settings.timeout, aborted))
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Ignore redirects: requests reads and decodes them even if told not to follow."""
        return None


class _Keys(requests.auth.AuthBase):
    """Both keys as headers. As `auth`, it also keeps requests from adding those of a .netrc."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-API-Key"] = self._settings.api_key
        request.headers["X-Secret-Key"] = self._settings.secret_key
        return request


def clear_frames(error: BaseException | None) -> None:
    """Clear the frames of an error, which hold the connection, the patients and both keys.

    urllib3's frames refer to their own error, so they would stay until a garbage collection.
    """
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def problem_of_certificate(error: BaseException | None) -> str:
    """Return why OpenSSL refused the server's certificate; empty for any other error.

    The text of the error itself also contains the path, and with it a patient's code.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    within = (error.__cause__, error.__context__, *error.args) if error else ()
    problems = (problem_of_certificate(each) for each in within if isinstance(each, Exception))
    return next(filter(None, problems), "")
