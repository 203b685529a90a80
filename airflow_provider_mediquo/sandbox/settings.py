"""The settings: declared once, for the flags, the control API and the docs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """How the sandbox behaves; each attribute can be changed while it runs."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    lag: float = Field(2.0, ge=0)
    """Seconds until a GET shows an accepted write."""
    latency: float = Field(0.05, ge=0)
    """Seconds from a request to its response. A write is accepted before this time has passed."""
    jitter: float = Field(0.0, ge=0)
    """Maximum number of seconds added to the latency, at random for each request."""
    requests_per_minute: int = Field(600, ge=1)
    """Requests that one IP address may send to one endpoint per minute."""
    minute: float = Field(60.0, gt=0)
    """Length of the rate limit's minute in seconds. Shorten it for quick trials."""
    window: Literal["fixed", "sliding"] = "fixed"
    """fixed: all requests of a minute expire at once. sliding: each one expires after a minute."""
    retry_after: Literal["seconds", "date", "none"] = "seconds"
    """How a 429 says when to retry: whole seconds, an HTTP date, or not at all."""
    max_patients: int = Field(100, ge=1)
    """Patients allowed per request; more cause a 422."""
    success_body: Literal["current", "earlier"] = "current"
    """Body of an upsert's response: as in mediQuo's current documentation, or in the earlier one."""
    validation_detail: Literal["errors", "message", "none"] = "errors"
    """What a 422 contains: a message and errors by field, only the message, or nothing."""
    quote_values: bool = True
    """Whether the message of a 422 quotes the refused value."""
    refuse_tax_id: str = ""
    """A tax_id to refuse although the documentation allows it. Empty: none."""
    error_rate: float = Field(0.0, ge=0, le=1)
    """Fraction of requests answered with 500, 502, 503, or 504. Nothing is written."""
    lost_before_rate: float = Field(0.0, ge=0, le=1)
    """Fraction of requests whose connection is cut without a response. Nothing is written."""
    lost_after_rate: float = Field(0.0, ge=0, le=1)
    """Fraction of requests whose connection is cut without a response after the write was accepted."""
    drip: float = Field(0.5, ge=0)
    """Seconds before each byte of a scripted slow_body."""
    unknown_patient_status: Literal[404, 401] = 404
    """Status of an authenticate request for a patient that is not visible."""
    touch_unchanged: bool = False
    """Whether a write that changes nothing updates updated_at."""
    timestamp_format: Literal["space", "iso"] = "space"
    """Time format of GET: 2000-01-01 10:00:00+0000, or 2000-01-01T10:00:00Z."""
    clock_skew: float = Field(0.0, ge=-1e9, le=1e9)
    """Seconds by which the server's clock is ahead, in the Date header and in all times."""
    seed: int | None = None
    """Seed for the random faults and the jitter. None: different each time."""
